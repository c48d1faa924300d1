"""Vendor repositories: the table's row for a host, with the inventory's mirror laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inventory import Host
from inventory.model import Repository
from provisioner import data
from provisioner.errors import BlockedError
from provisioner.platforms.base import VendorSource


def vendor_source(
    name: str, family: str, platform: str, values: Mapping[str, str], host: Host
) -> VendorSource:
    """``family`` is ``apt`` or ``rpm``; ``platform`` is the release's name in NVIDIA's repository;
    ``values`` fill the row's placeholders. Raises BlockedError for a key without a known
    fingerprint: no key is trusted unseen."""
    row = data.load("repositories")[name][family]
    row = {**row, **row.get("per_platform", {}).get(platform, {})}
    mirror: Repository = getattr(host.mirrors, name)
    key_url = mirror.key_url or row["key_url"].format(**values)
    return VendorSource(
        name=name,
        uri=mirror.uri or row["uri"].format(**values),
        key_url=key_url,
        key_fingerprint=mirror.key_fingerprint or _known(row, name, key_url),
        suite=row.get("suite", "/").format(**values),
        components=row.get("components", ""),
        signs=row.get("signs", "packages"),
        only=row.get("only", ""),
        proxy=host.mirrors.http_proxy or "",
    )


def key_file_name(source: VendorSource) -> str:
    """The name carries the fingerprint: another pinned key is another file."""
    return f"rigup-{source.name}-{source.key_fingerprint.lower()[-16:]}.asc"


def _known(row: Mapping[str, Any], name: str, key_url: str) -> str:
    if fingerprint := row["key_fingerprint"]:
        return str(fingerprint)
    raise BlockedError(
        f"the fingerprint of the key that signs this {name} repository is not known to rigup",
        remedy=f"verify the key at {key_url}, then pin it in the inventory: "
        f"mirrors: {{{name}: {{key_fingerprint: …}}}}",
    )
