"""The inventory that lab.up writes is one that rigup loads."""

from __future__ import annotations

from pathlib import Path

from inventory.loader import load_inventory
from provisioner.lab.inventory_file import Entry, VendorRepository, cuda_path, render, toolkit_path

FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
VENDOR = VendorRepository("http://172.17.0.1:25000", FINGERPRINT)
ENTRIES = [Entry("lab01", 2201, "debian12"), Entry("lab02", 2202, "debian13")]


def test_it_says_that_gpus_are_simulated() -> None:
    text = render(ENTRIES, Path("/keys/id"), VENDOR)
    assert text.startswith("# written by lab.up; practice hosts, GPUs are SIMULATED\n")


def test_the_loader_understands_it(tmp_path: Path) -> None:
    identity = tmp_path / "id_ed25519"
    identity.write_text("key")
    path = tmp_path / "hosts.yaml"
    path.write_text(render(ENTRIES, identity, VENDOR))
    inventory = load_inventory(path)
    assert inventory.groups["lab"].hosts == ("lab01", "lab02")
    first, second = inventory.hosts["lab01"], inventory.hosts["lab02"]
    assert (first.address, first.port, first.user) == ("127.0.0.1", 2201, "lab")
    assert first.identity_file == identity
    assert dict(first.labels) == {"gpus": "simulated", "distro": "debian12"}
    assert second.mirrors.nvidia.key_fingerprint == FINGERPRINT
    assert "/cuda/repos/debian13/" in (second.mirrors.nvidia.uri or "")
    assert (first.docker_source, first.driver_source) == ("distro", "vendor")


def test_repository_paths_are_the_vendors() -> None:
    assert cuda_path("debian12", "x86_64") == "cuda/repos/debian12/x86_64"
    assert cuda_path("debian13", "aarch64") == "cuda/repos/debian13/sbsa"
    assert toolkit_path("aarch64") == "libnvidia-container/stable/deb/arm64"
