"""Guest disks, built once per recipe and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from provisioner.errors import LabError
from provisioner.home import locked
from provisioner.lab.distros import Distro
from provisioner.lab.guest.disk import install_boot_loader
from provisioner.lab.guest.recipe import guest_recipe
from provisioner.lab.images import WORK_DIR, Progress
from provisioner.lab.machine import read_machine
from provisioner.lab.recipe import Recipe

DISK_MIB = 12 * 1024
"""Sparse; about 2 GB are used."""
WORK_PREFIX = "rigup-guest-build-"
BUILD_TIMEOUT_S = 1800.0
LINES_SHOWN = 15


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where disks are kept (XDG base directory specification)."""
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "rigup" / "guests"


def guest_image(distro: Distro, progress: Progress) -> Path:
    """The disk (raw) that guests of that distro start from; never written to once it is there.

    Needs root. Safe to call from several processes at once. Raises LabError.
    """
    recipe = guest_recipe(distro, read_machine(), datetime.now(timezone.utc).date())
    path = cache_dir() / f"{recipe.repository}-{recipe.digest}.raw"
    with locked(path):
        if not path.exists():
            progress(f"building {path.name}, which takes a few minutes")
            _build(recipe, distro, path)
    return path


def _build(recipe: Recipe, distro: Distro, path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=WORK_DIR))
    try:
        _write(recipe.files, folder)
        _run(folder, distro, recipe.files["archive"].decode())
        disk = folder / "disk.raw"
        boot, core = (folder / name for name in ("boot.img", "core.img"))
        install_boot_loader(disk, boot.read_bytes(), core.read_bytes())
        _publish(disk, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)


def _run(folder: Path, distro: Distro, archive: str) -> None:
    # In a mount namespace of its own, so that a kill leaves no /proc mounted in the folder.
    words = ["unshare", "--mount", "--propagation", "private", "sh", str(folder / "build.sh")]
    words += [str(folder), distro.codename, archive, str(DISK_MIB)]
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        tail = log.read_text("utf-8", "replace").splitlines()[-LINES_SHOWN:]
        raise LabError(
            f"the guest's disk could not be built ({distro.name})\n" + "\n".join(tail),
            remedy=f"{log} has everything; is {archive} reachable?",
        )
    log.unlink()


def _publish(disk: Path, path: Path) -> None:
    """Under its final name only when it is complete; ``cp`` keeps the holes."""
    partial = path.with_suffix(".partial")
    subprocess.run(["cp", "--sparse=always", str(disk), str(partial)], check=True)
    partial.replace(path)
