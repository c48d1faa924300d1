"""What differs between OS families: one file each, and this registry."""

from provisioner.errors import BlockedError
from provisioner.facts.os import OsFacts
from provisioner.platforms.amazon import AmazonLinux
from provisioner.platforms.base import Platform, VendorSource, docker_source, named
from provisioner.platforms.debian import Debian
from provisioner.platforms.fedora import Fedora
from provisioner.platforms.rhel import Rhel
from provisioner.platforms.suse import Suse
from provisioner.platforms.ubuntu import Ubuntu

ARCHITECTURES = ("x86_64", "aarch64")
ALL_PLATFORMS: tuple[Platform, ...] = (
    Debian(),
    Ubuntu(),
    Rhel(),
    Fedora(),
    AmazonLinux(),
    Suse(),
)


def platform_of(os: OsFacts) -> Platform:
    """The platform that supports this host. Raises BlockedError for any other host."""
    for platform in ALL_PLATFORMS:
        if platform.supports(os):
            return platform
    raise BlockedError(
        f"{os.pretty_name} on {os.architecture} is not supported: {_why_not(os)}",
        remedy=f"use one of: {named(ALL_PLATFORMS)} (x86_64 or aarch64)",
    )


def is_supported(os: OsFacts) -> bool:
    """Where not, a host that has everything already is left as it is."""
    return any(platform.supports(os) for platform in ALL_PLATFORMS)


def _why_not(os: OsFacts) -> str:
    """Support ends where NVIDIA's does: the table of its driver installation guide."""
    if os.architecture not in ARCHITECTURES:
        return f"NVIDIA publishes no driver packages for {os.architecture}"
    listed = [
        release
        for platform in ALL_PLATFORMS
        for release in platform.releases
        if release.startswith(f"{os.id} ")
    ]
    if not listed:
        return "NVIDIA's driver installation guide does not list it"
    return f"NVIDIA's driver installation guide lists only {', '.join(listed)}"


__all__ = [
    "ALL_PLATFORMS",
    "Platform",
    "VendorSource",
    "docker_source",
    "is_supported",
    "platform_of",
]
