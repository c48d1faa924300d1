"""What differs between OS families: one file each, and this registry."""

from provisioner.errors import BlockedError
from provisioner.facts.os import OsFacts
from provisioner.platforms.base import Platform, VendorSource, named
from provisioner.platforms.debian import Debian
from provisioner.platforms.ubuntu import Ubuntu

ALL_PLATFORMS: tuple[Platform, ...] = (Debian(), Ubuntu())


def platform_of(os: OsFacts) -> Platform:
    """The platform that supports this host. Raises BlockedError for any other host."""
    for platform in ALL_PLATFORMS:
        if platform.supports(os):
            return platform
    raise BlockedError(
        f"{os.pretty_name} on {os.architecture} is not supported",
        remedy=f"use one of: {named(ALL_PLATFORMS)} (x86_64 or aarch64)",
    )


__all__ = ["ALL_PLATFORMS", "Platform", "VendorSource", "platform_of"]
