"""What a step needs to know about an OS family: how packages and repositories work there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from inventory import Host
from provisioner.actions import Action
from provisioner.facts import Facts
from provisioner.facts.os import OsFacts


@dataclass(frozen=True)
class VendorSource:
    """One vendor repository as it must be on the host: a source file and a signing key."""

    name: str
    uri: str
    key_url: str
    key_fingerprint: str
    suite: str = "/"
    components: str = ""


class Platform(Protocol):
    """An OS family. All functions are pure; actions are values."""

    @property
    def name(self) -> str: ...

    def supports(self, os: OsFacts) -> bool:
        """Is this host one of the releases that were proven?"""

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        """Names for ``source`` distro or vendor."""

    def vendor_source(self, name: str, os: OsFacts, host: Host) -> VendorSource:
        """``nvidia``, ``container_toolkit`` or ``docker``, with the inventory's mirrors applied."""

    def source_actions(self, source: VendorSource, facts: Facts) -> tuple[Action, ...]:
        """What is missing for the repository to be usable; empty when it is in place."""

    def install(self, *packages: str) -> tuple[Action, ...]:
        """Refresh the lists and install packages without asking anything."""
