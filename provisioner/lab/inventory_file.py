"""``hosts.yaml`` of the practice hosts."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HEADER = "# written by lab.up; practice hosts, GPUs are SIMULATED\n"
CUDA_ARCHITECTURE = {"aarch64": "sbsa"}
DEB_ARCHITECTURE = {"aarch64": "arm64"}
GUEST_FOLDER = "guest"
"""Where the repositories for guests with a kernel of their own lie on the vendor's server."""


@dataclass(frozen=True)
class VendorRepository:
    """Where the stand-in packages are served, and the key that signs them."""

    url: str
    fingerprint: str

    def mirrors(self, distro: str, machine: str | None = None) -> dict[str, dict[str, str]]:
        """The inventory's ``mirrors`` for a host of that distro."""
        key = {"key_url": f"{self.url}/key.asc", "key_fingerprint": self.fingerprint}
        return {
            "nvidia": {"uri": f"{self.url}/{cuda_path(distro, machine)}/", **key},
            "container_toolkit": {"uri": f"{self.url}/{toolkit_path(machine)}/", **key},
        }


@dataclass(frozen=True)
class Entry:
    name: str
    port: int
    distro: str


def cuda_path(distro: str, machine: str | None = None) -> str:
    """As on NVIDIA's server: ``cuda/repos/<codename>/<architecture>``."""
    architecture = CUDA_ARCHITECTURE.get(machine or platform.machine(), "x86_64")
    return f"cuda/repos/{distro}/{architecture}"


def toolkit_path(machine: str | None = None) -> str:
    architecture = DEB_ARCHITECTURE.get(machine or platform.machine(), "amd64")
    return f"libnvidia-container/stable/deb/{architecture}"


def render(entries: Sequence[Entry], identity: Path, vendor: VendorRepository) -> str:
    """The inventory's text. Mirrors stand at each host, since their URL differs by distro."""
    document: dict[str, Any] = {
        "defaults": {
            "user": "lab",
            "identity_file": str(identity),
            "labels": {"gpus": "simulated"},
            "docker_source": "distro",
            "driver_source": "vendor",
        },
        "groups": {"lab": {"hosts": [entry.name for entry in entries]}},
        "hosts": {entry.name: _host(entry, vendor) for entry in entries},
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False)


def _host(entry: Entry, vendor: VendorRepository) -> dict[str, Any]:
    return {
        "address": "127.0.0.1",
        "port": entry.port,
        "labels": {"distro": entry.distro},
        "mirrors": vendor.mirrors(entry.distro),
    }
