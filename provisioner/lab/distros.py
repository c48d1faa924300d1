"""The operating systems a practice host can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.errors import UsageError


@dataclass(frozen=True)
class Distro:
    """``codename`` is the archive's suite; ``registry_image`` the same system in a registry."""

    name: str
    codename: str
    registry_image: str


DISTROS: tuple[Distro, ...] = (
    Distro("debian12", "bookworm", "debian:12"),
    Distro("debian13", "trixie", "debian:13"),
)
DEFAULT_DISTRO = DISTROS[0].name


def find_distro(name: str) -> Distro:
    """The distro of that name; UsageError, naming the known ones, when there is none."""
    for distro in DISTROS:
        if distro.name == name:
            return distro
    known = ", ".join(distro.name for distro in DISTROS)
    raise UsageError(
        f"unknown practice distro {name!r}", remedy=f"--distro with one or more of: {known}"
    )


def spread(names: Sequence[str], count: int) -> tuple[Distro, ...]:
    """One distro per host, alternating over ``names`` (``debian12,debian13`` may be one name)."""
    chosen = [find_distro(part.strip()) for name in names for part in name.split(",")]
    if not chosen:
        chosen = [find_distro(DEFAULT_DISTRO)]
    return tuple(chosen[index % len(chosen)] for index in range(count))
