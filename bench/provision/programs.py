"""The contenders as a user has them: installed by pip, byte-compiled, each in its environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("inventory", "provisioner", "remote_agent", "tui", "examples")
FILES = ("tasks.py", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Programs:
    """Paths of the executables; ``versions`` as pip says them."""

    rigup: Path
    pyinfra: Path
    ansible: Path
    versions: tuple[str, ...]


def install(work: Path) -> Programs:
    """rigup from this checkout, its peers from the package index (once; newest then)."""
    rigup, versions = install_rigup(work)
    peers = work / "peers"
    if not (peers / "bin" / "ansible-playbook").exists():
        _create(peers)
        _pip(peers, "install", "-qq", "-r", str(Path(__file__).with_name("requirements.txt")))
    return Programs(
        rigup,
        peers / "bin" / "pyinfra",
        peers / "bin" / "ansible-playbook",
        (*versions, *_versions(peers, "pyinfra", "ansible-core")),
    )


def install_rigup(work: Path) -> tuple[Path, tuple[str, ...]]:
    """The executable, and the versions that count."""
    place, source = work / "rigup", _copy_of_checkout(work / "source")
    if not (place / "bin" / "rigup").exists():
        _create(place)
        _pip(place, "install", "-qq", str(source))
    _pip(place, "install", "-qq", "--force-reinstall", "--no-deps", str(source))
    return place / "bin" / "rigup", _versions(place, "rigup", "paramiko", "fabric")


def _create(place: Path) -> None:
    venv.create(place, with_pip=True, clear=True)


def _copy_of_checkout(place: Path) -> Path:
    """Built from a copy: what lies in the checkout's own build folder must not get in."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in SOURCES:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, place)
    return place


def _versions(place: Path, *packages: str) -> tuple[str, ...]:
    installed = json.loads(_pip(place, "list", "--format", "json"))
    return tuple(f"{row['name']} {row['version']}" for row in installed if row["name"] in packages)


def _pip(place: Path, *words: str) -> str:
    done = subprocess.run(
        [place / "bin" / "python", "-m", "pip", *words], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"pip failed in {place}")
    return done.stdout
