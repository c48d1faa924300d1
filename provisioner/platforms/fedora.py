"""Fedora, the release that NVIDIA publishes a driver for."""

from __future__ import annotations

from provisioner.facts.os import OsFacts
from provisioner.platforms.dnf import DnfPlatform

DISTRO_DOCKER = ("moby-engine", "docker-cli")


class Fedora(DnfPlatform):
    """Driver installation guide 620: Fedora 44, no other. Its dnf 5 has ``versionlock`` built in,
    dkms is in its own repositories."""

    name = "fedora"
    lock_plugin = None

    @property
    def releases(self) -> tuple[str, ...]:
        return ("fedora 44",)

    def codename(self, os: OsFacts) -> str | None:
        return "fedora44" if (os.id, os.version) == ("fedora", "44") else None

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        return super().docker_packages(os, source) if source == "vendor" else DISTRO_DOCKER
