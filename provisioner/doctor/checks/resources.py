"""Disk space and the clock."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner import data
from provisioner.doctor.finding import Finding, Severity
from provisioner.doctor.probes.storage import ANSWER_WITHIN_S, STORAGE, Place
from provisioner.doctor.situation import Situation, found
from provisioner.facts import RESOURCES

GIB = 1 << 30
FULL_BYTES, FULL_PART = GIB, 0.05
NEARLY_FULL_BYTES, NEARLY_FULL_PART = 5 * GIB, 0.2
"""The smaller of both counts. Below the first, logs and checkpoints soon fail; below the second, no
image fits any more. A small file system is not full because it is small."""
FEW_FILES = 10_000


def look(situation: Situation) -> Iterator[Finding]:
    storage = situation.facts[STORAGE]
    mounts: dict[str, list[Place]] = {}
    for place in storage.places:
        mounts.setdefault(place.mount, []).append(place)
    for mount, places in mounts.items():
        yield from _space(mount, places)
    for what, path in storage.silent:
        yield found(
            "disk-silent",
            "unread",
            f"disk of {path}",
            f"the file system of {what} cannot be looked at",
            evidence=f"no answer within {ANSWER_WITHIN_S} s, or an error",
            where="stat -f",
            fix=f"df -h {path}; a network file system whose server is gone hangs everything on it",
        )


def look_at_clock(situation: Situation) -> Iterator[Finding]:
    ahead_s, table = situation.facts[RESOURCES].clock_ahead_s, data.load("preflight")
    if abs(ahead_s) <= table["clock_tolerance_s"]:
        return
    yield found(
        "clock-skew",
        "problem" if abs(ahead_s) > table["clock_far_off_s"] else "warning",
        "clock",
        "the host's clock differs from this machine's: certificates and package lists may not "
        "be believed",
        evidence=f"{abs(ahead_s)} s {'ahead' if ahead_s > 0 else 'behind'}",
        where="date",
        fix="compare `date` on both; on the wrong one, sudo timedatectl set-ntp true",
    )


def _space(mount: str, places: list[Place]) -> Iterator[Finding]:
    what = ", ".join(dict.fromkeys(place.what for place in places))
    paths = ", ".join(dict.fromkeys(place.path for place in places))
    subject, where = f"disk {mount}", f"{mount} ({paths})"
    one = places[0]
    if one.read_only:
        yield found(
            "disk-read-only",
            "problem",
            subject,
            f"{mount} is mounted read-only; it holds: {what}",
            evidence="ro",
            where=where,
            fix=f"sudo dmesg | grep -iE 'I/O error|read-only'; then fsck, or sudo mount -o "
            f"remount,rw {mount}",
        )
    if one.free_bytes < min(NEARLY_FULL_BYTES, NEARLY_FULL_PART * one.total_bytes):
        full = one.free_bytes < min(FULL_BYTES, FULL_PART * one.total_bytes)
        severity: Severity = "problem" if full else "warning"
        yield found(
            "disk-nearly-full",
            severity,
            subject,
            f"{mount} is {'' if full else 'nearly '}full; it holds: {what}",
            evidence=f"{one.free_bytes / GIB:.1f} of {one.total_bytes / GIB:.1f} GiB free",
            where=where,
            fix="docker system df; docker system prune; sudo journalctl --vacuum-size=500M; "
            "old jobs lie in the state directory",
        )
    if one.free_files is not None and one.free_files < FEW_FILES:
        yield found(
            "disk-few-files",
            "problem",
            subject,
            f"{mount} can hold only a few more files, however much space is free; it holds: {what}",
            evidence=f"{one.free_files} free inodes",
            where=where,
            fix=f"df -i {mount}; find who has that many small files and remove them",
        )
