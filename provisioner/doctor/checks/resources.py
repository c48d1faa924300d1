"""Disk space and the clock."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner import data
from provisioner.doctor.finding import Finding, Severity
from provisioner.doctor.situation import Situation, found
from provisioner.facts import DOCKER, LOGIN, RESOURCES, FactUnreadable
from provisioner.facts.resources import Space

GIB = 1 << 30
FULL_BYTES, NEARLY_FULL_BYTES = GIB, 5 * GIB
"""Below the first, logs and checkpoints soon fail; below the second, no image fits any more."""
FEW_FILES = 10_000


def look(situation: Situation) -> Iterator[Finding]:
    resources = situation.facts[RESOURCES]
    for mount, paths in _places(situation).items():
        space = resources.mounts.get(mount)
        if space is not None:
            yield from _space(mount, paths, space)
    yield from _clock(resources.clock_ahead_s)


def _places(situation: Situation) -> dict[str, list[str]]:
    """Mount point -> the paths on it that matter."""
    places: dict[str, list[str]] = {}
    for path in ("/", "/var", "/tmp", *_home(situation), _docker_root(situation)):  # noqa: S108
        places.setdefault(situation.facts[RESOURCES].mount_of(path), []).append(path)
    return places


def _home(situation: Situation) -> tuple[str, ...]:
    try:
        return (situation.facts[LOGIN].home,)
    except FactUnreadable:
        return ()


def _docker_root(situation: Situation) -> str:
    try:
        daemon = situation.facts[DOCKER].daemon_json or {}
    except FactUnreadable:
        daemon = {}
    return str(daemon.get("data-root") or "/var/lib/docker")


def _space(mount: str, paths: list[str], space: Space) -> Iterator[Finding]:
    where = f"{mount} ({', '.join(paths)})"
    if space.read_only:
        yield found(
            "disk-read-only",
            "problem",
            f"disk {mount}",
            f"{mount} is mounted read-only",
            evidence="ro",
            where=where,
            fix=f"sudo dmesg | grep -iE 'I/O error|read-only'; then fsck, or sudo mount -o "
            f"remount,rw {mount}",
        )
    if space.free_bytes < NEARLY_FULL_BYTES:
        full = space.free_bytes < FULL_BYTES
        severity: Severity = "problem" if full else "warning"
        yield found(
            "disk-nearly-full",
            severity,
            f"disk {mount}",
            f"{mount} is {'' if full else 'nearly '}full",
            evidence=f"{space.free_bytes / GIB:.1f} GiB free",
            where=where,
            fix="docker system df; docker system prune; sudo journalctl --vacuum-size=500M",
        )
    if space.free_files is not None and space.free_files < FEW_FILES:
        yield found(
            "disk-few-files",
            "problem",
            f"disk {mount}",
            f"{mount} can hold only a few more files, however much space is free",
            evidence=f"{space.free_files} free inodes",
            where=where,
            fix=f"df -i {mount}; find who has that many small files and remove them",
        )


def _clock(ahead_s: int) -> Iterator[Finding]:
    if abs(ahead_s) > data.load("preflight")["clock_tolerance_s"]:
        yield found(
            "clock-skew",
            "warning",
            "clock",
            "the host's clock differs from this machine's: certificates and package lists may not "
            "be believed",
            evidence=f"{abs(ahead_s)} s {'ahead' if ahead_s > 0 else 'behind'}",
            where="date",
            fix="compare `date` on both; on the wrong one, sudo timedatectl set-ntp true",
        )
