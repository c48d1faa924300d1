"""Debian."""

from __future__ import annotations

from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, Run, WriteFile
from provisioner.errors import BlockedError
from provisioner.facts import ARCHIVE, OS, SOURCES, Facts
from provisioner.facts.archive import MASKED, AptSource
from provisioner.facts.os import OsFacts
from provisioner.hardware import DriverChoice
from provisioner.platforms.apt import HEADER, AptPlatform, apt_get
from provisioner.traces import Trace

NON_FREE = ("contrib", "non-free", "non-free-firmware")
"""Where Debian keeps NVIDIA's driver (contrib needs the other two)."""
NON_FREE_SOURCE = PurePosixPath("/etc/apt/sources.list.d/rigup-debian-non-free.sources")

KERNEL_PACKAGE = {"open": "nvidia-open-kernel-dkms", "proprietary": "nvidia-kernel-dkms"}
USER_SPACE = (
    "firmware-nvidia-gsp",
    "libcuda1",
    "libnvidia-nvvm4",
    "libnvidia-ptxjitcompiler1",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-smi",
)
"""What computing needs of ``nvidia-driver``, which brings a whole X server."""


class Debian(AptPlatform):
    """12 (bookworm) and 13 (trixie), which splits Docker's client off."""

    name = "debian"
    os_id = "debian"
    codenames = {"12": "debian12", "13": "debian13"}  # noqa: RUF012

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        packages = super().docker_packages(os, source)
        split_client = source == "distro" and os.version == "13"
        return (*packages, "docker-cli") if split_client else packages

    def distro_driver_packages(self, choice: DriverChoice) -> tuple[str, ...]:
        return KERNEL_PACKAGE[choice.flavour], "nvidia-smi"

    def distro_driver_actions(
        self, choice: DriverChoice, facts: Facts, host: Host
    ) -> tuple[Action, ...]:
        packages = (KERNEL_PACKAGE[choice.flavour], *USER_SPACE)
        words = ("install", "-y", "--no-install-recommends", *packages)
        traces = tuple(Trace("package", package) for package in packages)
        return (
            *_non_free(facts),
            Run(apt_get("update"), "apt-get update"),
            Run(apt_get(*words), f"apt-get install {' '.join(packages)}", traces=traces),
        )


def _non_free(facts: Facts) -> tuple[Action, ...]:
    """The components that the host's own sources of Debian lack, from the very same mirrors."""
    wanted = non_free_source(facts[ARCHIVE].sources, facts[OS].codename)
    present = facts[SOURCES].files.get(str(NON_FREE_SOURCE))
    return () if wanted in ("", present) else (WriteFile(NON_FREE_SOURCE, wanted),)


def non_free_source(sources: tuple[AptSource, ...], codename: str) -> str:
    """A source file's text; empty where nothing is missing. Raises BlockedError where the host's
    sources cannot be completed."""
    debian = [source for source in sources if _is_debian(source, sources, codename)]
    if not debian:
        raise BlockedError(
            f"no source of Debian {codename} is configured that could be completed with "
            f"{', '.join(NON_FREE)}",
            remedy="add Debian's archive to /etc/apt/sources.list.d, or set driver_source: vendor",
        )
    stanzas = [text for source in debian if (text := _completed(source, sources, codename))]
    if any(MASKED in text for text in stanzas):
        raise BlockedError(
            "a source of Debian has a password in its URI, which rigup does not copy",
            remedy=f"add the components {' '.join(NON_FREE)} to it by hand (and move the password "
            "to /etc/apt/auth.conf.d)",
        )
    return "\n".join([HEADER, *stanzas]) if stanzas else ""


def _is_debian(source: AptSource, sources: tuple[AptSource, ...], codename: str) -> bool:
    """Other vendors have a suite of Debian's name and a component ``main`` too, but neither its
    keys nor its updates."""
    if "main" not in source.components or not _suites(source, codename):
        return False
    key = source.settings.get("Signed-By", "")
    updates = {f"{codename}-updates", f"{codename}-security", f"{codename}/updates"}
    beside = [suite for other in sources if other.uris == source.uris for suite in other.suites]
    return not key or "debian-archive" in key or not updates.isdisjoint(beside)


def _suites(source: AptSource, codename: str) -> list[str]:
    wanted = (codename, f"{codename}-updates", f"{codename}-security")
    return [suite for suite in source.suites if suite in wanted]


def _completed(source: AptSource, sources: tuple[AptSource, ...], codename: str) -> str:
    """The source again, with only what is missing."""
    suites = _suites(source, codename)
    enabled = {
        component
        for other in sources
        if other.uris == source.uris and set(suites) <= set(other.suites)
        for component in other.components
    }
    missing = [component for component in NON_FREE if component not in enabled]
    if not missing:
        return ""
    lines = [
        "Types: deb",
        f"URIs: {source.uris}",
        f"Suites: {' '.join(suites)}",
        f"Components: {' '.join(missing)}",
        *(f"{key}: {value}" for key, value in source.settings.items()),
    ]
    return "\n".join(lines) + "\n"
