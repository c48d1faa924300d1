"""What differs between OS families: one file each, and this registry."""

from provisioner.errors import BlockedError
from provisioner.facts.os import OsFacts
from provisioner.platforms.base import Platform, VendorSource
from provisioner.platforms.debian import SUPPORTED, Debian

ALL_PLATFORMS: tuple[Platform, ...] = (Debian(),)


def platform_of(os: OsFacts) -> Platform:
    """The platform that supports this host. Raises BlockedError for any other host."""
    for platform in ALL_PLATFORMS:
        if platform.supports(os):
            return platform
    known = ", ".join(f"{name} {version}" for name, version in SUPPORTED)
    raise BlockedError(
        f"{os.pretty_name} on {os.architecture} is not supported",
        remedy=f"use one of: {known} (x86_64 or aarch64)",
    )


__all__ = ["ALL_PLATFORMS", "Platform", "VendorSource", "platform_of"]
