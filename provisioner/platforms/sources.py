"""Vendor repositories: the table's row for a host, with the inventory's mirror laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from inventory import Host
from inventory.model import Repository
from provisioner import data
from provisioner.platforms.base import VendorSource


def vendor_source(
    name: str, family: str, platform: str, values: Mapping[str, str], host: Host
) -> VendorSource:
    """``family`` is ``apt`` or ``rpm``; ``platform`` is the release's name in NVIDIA's repository;
    ``values`` fill the row's placeholders."""
    row = data.load("repositories")[name][family]
    row = {**row, **row.get("per_platform", {}).get(platform, {})}
    official = VendorSource(
        name=name,
        uri=row["uri"].format(**values),
        key_url=row["key_url"].format(**values),
        key_fingerprint=row["key_fingerprint"],
        suite=row.get("suite", "/").format(**values),
        components=row.get("components", ""),
    )
    return _mirrored(official, getattr(host.mirrors, name))


def key_file_name(source: VendorSource) -> str:
    """The name carries the fingerprint: another pinned key is another file."""
    return f"rigup-{source.name}-{source.key_fingerprint.lower()[-16:]}.asc"


def _mirrored(official: VendorSource, mirror: Repository) -> VendorSource:
    return replace(
        official,
        uri=mirror.uri or official.uri,
        key_url=mirror.key_url or official.key_url,
        key_fingerprint=mirror.key_fingerprint or official.key_fingerprint,
    )
