"""Debian."""

from __future__ import annotations

from provisioner.facts.os import OsFacts
from provisioner.platforms.apt import AptPlatform


class Debian(AptPlatform):
    """12 (bookworm) and 13 (trixie), which splits Docker's client off."""

    name = "debian"
    os_id = "debian"
    codenames = {"12": "debian12", "13": "debian13"}  # noqa: RUF012

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        packages = super().docker_packages(os, source)
        split_client = source == "distro" and os.version == "13"
        return (*packages, "docker-cli") if split_client else packages
