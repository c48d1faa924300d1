"""What this machine must have in order to build and run guests."""

from __future__ import annotations

import os
import platform
import shutil

from provisioner.errors import LabError

TOOLS = {
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
"""Program -> the Debian package that has it."""


def missing_tools() -> tuple[str, ...]:
    """The Debian packages that are missing here, in alphabetical order."""
    return tuple(sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)}))


def require() -> None:
    """Raises LabError, saying what to do, where guests can be neither built nor run."""
    if platform.machine() != "x86_64":
        raise LabError(
            f"practice guests are x86_64 machines, this one is {platform.machine()}",
            remedy="run them on an x86_64 machine",
        )
    missing = missing_tools()
    if missing:
        raise LabError(
            f"practice guests need programs that are not here (packages: {', '.join(missing)})",
            remedy=f"apt-get install --no-install-recommends {' '.join(missing)}",
        )
    if os.geteuid() != 0:
        raise LabError("only root can build a practice guest's disk", remedy="run as root")
