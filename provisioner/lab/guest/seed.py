"""What makes one guest itself: its name, its host key, who may log in, its simulated GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from provisioner.lab.access import Access, make_key
from provisioner.lab.gpus import CONFIG_PATH
from provisioner.lab.recipe import tar_of

HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
USERS = ("lab", "admin")
PRIVATE = 0o600
LABEL = b"This is a rigup practice guest: a QEMU machine. Its GPUs, if any, are SIMULATED.\n"


@dataclass(frozen=True)
class Seed:
    """``archive`` is the second disk's content, ``host_key`` the public key to pin."""

    archive: bytes
    host_key: str


def make_seed(name: str, folder: Path, access: Access, gpu_config: str) -> Seed:
    """With the host key in ``folder``, which is made there at the first call. Raises LabError."""
    key = folder / "ssh_host_ed25519_key"
    if not key.exists():
        make_key(key)
    public = key.with_suffix(".pub").read_text("utf-8")
    password = access.password_file.read_text("utf-8").strip()
    files = {
        HOST_KEY: key.read_bytes(),
        f"{HOST_KEY}.pub": public.encode(),
        "etc/hostname": f"{name}\n".encode(),
        "etc/rigup-lab-host": LABEL,
        "root/passwords": f"admin:{password}\n".encode(),
        CONFIG_PATH.lstrip("/"): gpu_config.encode(),
        **{
            f"home/{user}/.ssh/authorized_keys": f"{access.public_key}\n".encode() for user in USERS
        },
    }
    modes = {HOST_KEY: PRIVATE, "root/passwords": PRIVATE}
    return Seed(tar_of(files, modes=modes), public.strip())
