"""Packages: the manager's state, and whether the driver may be upgraded under running jobs."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.doctor.finding import Finding
from provisioner.doctor.situation import Situation, found
from provisioner.facts import GPU, PACKAGES, SOURCES
from provisioner.facts.packages import PackageFacts

DRIVER_PACKAGES = ("nvidia-driver", "nvidia-open", "nvidia-kernel", "cuda-drivers", "libnvidia-")
PINNING = "nvidia-driver-pinning-"
NOT_THE_DRIVER = ("libnvidia-container", PINNING)


def look(situation: Situation) -> Iterator[Finding]:
    packages = situation.facts[PACKAGES]
    if packages.broken or packages.interrupted:
        yield found(
            "packages-broken",
            "problem",
            "packages",
            "an installation was cut short",
            evidence=", ".join(packages.broken) or "unfinished work of the package manager",
            where=f"{packages.manager} database",
            fix=f"{situation.provision} repairs it; by hand on apt systems, sudo dpkg --configure "
            "-a and sudo apt-get -f install",
        )
    if packages.busy:
        yield found(
            "packages-busy",
            "note",
            "packages",
            "the package manager is at work",
            evidence=packages.lock_holder or "its lock is held",
            where="lock files",
            fix="wait until it has ended",
        )
    yield from _keys(situation)
    yield from _unattended(situation, packages)


def _keys(situation: Situation) -> Iterator[Finding]:
    """Whatever else lies in such a file is trusted too."""
    odd = [path for path, key in situation.facts[SOURCES].keys.items() if not key]
    if odd:
        yield found(
            "signing-key-file",
            "problem",
            "packages",
            "a signing-key file does not hold exactly the one key that rigup writes",
            evidence=", ".join(odd),
            where="package sources",
            fix=f"gpg --show-keys on it says what; {situation.provision} replaces it where a "
            "repository names it, else sudo rm it",
        )


def _unattended(situation: Situation, packages: PackageFacts) -> Iterator[Finding]:
    """A pinned branch still gets new versions of it, and any of them breaks running jobs."""
    loose = [
        name
        for name in sorted(packages.versions)
        if name.startswith(DRIVER_PACKAGES)
        and not name.startswith(NOT_THE_DRIVER)
        and name not in packages.held
    ]
    if packages.unattended_upgrades and loose and situation.facts[GPU].module_version:
        yield found(
            "driver-upgrades-itself",
            "warning",
            "packages",
            "unattended upgrades may replace the driver under running jobs (driver/library version "
            "mismatch)",
            evidence=f"not held: {', '.join(loose)}",
            where="package manager",
            fix=f"sudo apt-mark hold {' '.join(loose[:4])} (or {situation.provision})",
            source="NVIDIA/nvidia-docker#1451 (M)",
        )
