"""Making a guest that rigup can reach: disk, identity, repository server, inventory, pinned key."""

from __future__ import annotations

import subprocess
from pathlib import Path

from provisioner.errors import LabError
from provisioner.home import write_private
from provisioner.lab import access, inventory_file, known_hosts
from provisioner.lab.containers import free_port, owner_of
from provisioner.lab.distros import DEFAULT_DISTRO, Distro, find_distro
from provisioner.lab.docker import Docker
from provisioner.lab.gpus import DEFAULT_MODEL, find_model, render_config
from provisioner.lab.guest.guest import Guest
from provisioner.lab.guest.image import guest_image
from provisioner.lab.guest.qemu import Machine, accelerator
from provisioner.lab.guest.seed import make_seed
from provisioner.lab.guest.tools import require
from provisioner.lab.images import Progress, silent
from provisioner.lab.lifecycle import DEFAULT_GPUS, lab_dir
from provisioner.lab.vendor import server

THIS_MACHINE = "10.0.2.2"
"""This machine's loopback as a guest sees it (QEMU, user-mode networking)."""


def guests_dir(home: Path) -> Path:
    return home / "guests"


def inventory_of(home: Path) -> Path:
    return guests_dir(home) / "hosts.yaml"


def up(
    home: Path,
    *,
    name: str = "guest01",
    distro: str = DEFAULT_DISTRO,
    gpus: int = DEFAULT_GPUS,
    progress: Progress = silent,
) -> Guest:
    """A new guest, switched on and not waited for: in the inventory, its host key pinned.

    One per home. Needs root, QEMU and the local Docker engine (it serves the stand-in packages).
    ``provisioner.lab.down`` removes the server. Raises LabError, UsageError for unknown names.
    """
    chosen = find_distro(distro)
    require()
    docker = Docker()
    docker.require()
    image = guest_image(chosen, progress)
    vendor = server.ensure(docker, owner_of(home), progress)
    granted = access.prepare(lab_dir(home))
    config = render_config(f"{owner_of(home)}.{name}", find_model(DEFAULT_MODEL), gpus)
    guest = _create(home, name, image, granted, config)
    _announce(home, guest, chosen, granted, vendor)
    progress(f"{name}: starting ({guest.accelerator}), ssh on 127.0.0.1:{guest.port}")
    guest.start()
    return guest


def _create(home: Path, name: str, image: Path, granted: access.Access, config: str) -> Guest:
    folder = guests_dir(home) / name
    folder.mkdir(parents=True, mode=0o700)
    seed = make_seed(name, folder, granted, config)
    (folder / "seed.raw").write_bytes(seed.archive)
    disk = folder / "disk.qcow2"
    _overlay(image, disk)
    machine = Machine(disk, seed=folder / "seed.raw", ssh_port=free_port())
    return Guest(name, folder, machine, accelerator(image), seed.host_key)


def _overlay(image: Path, disk: Path) -> None:
    """A disk that starts as ``image`` and keeps its own changes."""
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(disk)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"qemu-img failed: {done.stderr.strip()}")


def _announce(
    home: Path,
    guest: Guest,
    distro: Distro,
    granted: access.Access,
    vendor: inventory_file.VendorRepository,
) -> None:
    pinned = home / "known_hosts"
    before = pinned.read_text("utf-8") if pinned.exists() else ""
    write_private(pinned, known_hosts.pin(before, {guest.port: [guest.host_key]}).encode())
    entry = inventory_file.Entry(guest.name, guest.port, distro.name)
    seen = as_guests_see(vendor)
    text = inventory_file.render([entry], granted.identity, seen)
    write_private(inventory_of(home), text.encode())


def as_guests_see(vendor: inventory_file.VendorRepository) -> inventory_file.VendorRepository:
    """The repository server's address inside a guest, and the folder with the DKMS packages."""
    port = vendor.url.rpartition(":")[2]
    url = f"http://{THIS_MACHINE}:{port}/{inventory_file.GUEST_FOLDER}"
    return inventory_file.VendorRepository(url, vendor.fingerprint)
