"""What a step needs to know about an OS family: how packages and repositories work there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from inventory import Host
from provisioner.actions import Action
from provisioner.facts import Facts
from provisioner.facts.os import OsFacts
from provisioner.hardware import DriverChoice


@dataclass(frozen=True)
class VendorSource:
    """One vendor repository as it must be on the host: a source file and a signing key.

    ``suite`` and ``components`` are apt's. For rpm: ``signs`` says what the key signs (packages
    or metadata), ``only`` is the one pattern of packages to be taken from there, ``proxy`` the
    inventory's proxy (apt has a file of its own for it).
    """

    name: str
    uri: str
    key_url: str
    key_fingerprint: str
    suite: str = "/"
    components: str = ""
    signs: str = "packages"
    only: str = ""
    proxy: str = ""


class Platform(Protocol):
    """An OS family. All functions are pure; actions are values.

    What a platform cannot do raises BlockedError with the reason and what a person can do.
    """

    @property
    def name(self) -> str: ...

    @property
    def releases(self) -> tuple[str, ...]:
        """The supported releases as people call them, for messages."""

    @property
    def usual_docker(self) -> str:
        """The Docker that ``docker_source: auto`` takes: distro, or vendor where there is none."""

    def supports(self, os: OsFacts) -> bool:
        """Is this host one of the supported releases?"""

    # Repositories

    def vendor_source(self, name: str, os: OsFacts, host: Host) -> VendorSource:
        """``nvidia``, ``container_toolkit`` or ``docker``, with the inventory's mirrors applied."""

    def source_actions(self, source: VendorSource, facts: Facts) -> tuple[Action, ...]:
        """What is missing for the repository to be usable; empty when it is in place."""

    def probe_urls(self, source: VendorSource) -> tuple[str, ...]:
        """Small files that the package manager will fetch first: reachable means usable."""

    # Packages

    def install(self, *packages: str) -> tuple[Action, ...]:
        """Refresh the lists and install packages without asking anything."""

    def install_versions(self, versions: Mapping[str, str]) -> tuple[Action, ...]:
        """Install exactly these versions of packages, also where that is a downgrade."""

    def hold(self, *packages: str) -> tuple[Action, ...]:
        """Keep these packages from being upgraded by anything but rigup."""

    def release(self, *packages: str) -> tuple[Action, ...]:
        """Undo :meth:`hold`."""

    def remove(self, *packages: str) -> tuple[Action, ...]:
        """Remove packages; configuration files and data stay."""

    def repair(self, facts: Facts) -> tuple[Action, ...]:
        """Finish what an interrupted package manager left half done; empty when nothing is."""

    # What a step installs

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        """Names for ``source`` distro or vendor."""

    def header_packages(self, kernel_release: str, os: OsFacts) -> tuple[str, ...]:
        """Packages with the headers of that kernel (``uname -r``)."""

    def driver_packages(self, choice: DriverChoice, source: str) -> tuple[str, ...]:
        """The packages whose presence means that this driver is installed."""

    def driver_actions(self, choice: DriverChoice, facts: Facts, host: Host) -> tuple[Action, ...]:
        """Install and hold the driver from ``host.driver_source``, held to ``choice.branch``."""

    # The system

    def rebuild_initramfs(self) -> tuple[Action, ...]:
        """For every installed kernel."""

    def authority_actions(self, certificates: Mapping[str, bytes]) -> tuple[Action, ...]:
        """Trust these PEM certificates (file name -> content) system-wide."""

    def authority_directory(self) -> PurePosixPath:
        """Where added certificate authorities lie."""

    def proxy_files(self, proxy: str) -> Mapping[PurePosixPath, str]:
        """The package manager's own proxy configuration: path -> content."""


def docker_source(platform: Platform, host: Host) -> str:
    """distro or vendor, where the inventory says auto."""
    return platform.usual_docker if host.docker_source == "auto" else host.docker_source


def named(platforms: Sequence[Platform]) -> str:
    return ", ".join(release for platform in platforms for release in platform.releases)
