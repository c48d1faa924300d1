"""What a guest's disk is made from, and the hash that names it."""

from __future__ import annotations

from datetime import date

from provisioner.lab.distros import Distro
from provisioner.lab.machine import Machine
from provisioner.lab.recipe import Recipe, inherited_files, packaged_files

OVERLAY = "overlay/"
FROM_PRACTICE_HOSTS = (
    "etc/ssh/sshd_config.d/10-rigup-lab.conf",
    "etc/sudoers.d/lab",
    "etc/systemd/system/rigup-lab-gpus.service",
    "usr/local/lib/rigup-lab/gpus",
)


def guest_recipe(distro: Distro, machine: Machine, today: date) -> Recipe:
    """A Debian with sshd, an older and the newest kernel, nothing of Docker's or NVIDIA's.

    The month is part of it: archives drop kernels after a while, and a disk that is older than
    its archive cannot install headers for its kernel.
    """
    hosts = packaged_files("host")
    files = {
        **{OVERLAY + path: data for path, data in inherited_files(distro, machine).items()},
        **{OVERLAY + path: hosts[path] for path in FROM_PRACTICE_HOSTS},
        **packaged_files("guest"),
        "archive": machine.archive.encode(),
        "month": f"{today:%Y-%m}".encode(),
    }
    return Recipe(f"rigup-guest-{distro.name}", files)
