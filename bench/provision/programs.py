"""The contenders as a user has them: installed by pip, byte-compiled, each in its environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Programs:
    """Paths of the executables; ``versions`` as pip says them."""

    rigup: Path
    pyinfra: Path
    ansible: Path
    versions: tuple[str, ...]


def install(work: Path) -> Programs:
    """rigup from the last commit; its peers from the package index (once, the newest then)."""
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
    place = work / "rigup"
    source, commit = _last_commit(work / "source")
    if not (place / "bin" / "rigup").exists():
        _create(place)
        _pip(place, "install", "-qq", str(source))
    _pip(place, "install", "-qq", "--force-reinstall", "--no-deps", str(source))
    return place / "bin" / "rigup", (
        f"commit {commit}",
        *_versions(place, "rigup", "paramiko", "fabric"),
    )


def _create(place: Path) -> None:
    venv.create(place, with_pip=True, clear=True)


def _last_commit(place: Path) -> tuple[Path, str]:
    """Its files, and its name: what is measured can be looked up."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    archive = place / "source.tar"
    _git("archive", "--output", str(archive), "HEAD")
    with tarfile.open(archive) as files:
        files.extractall(place, filter="data")
    return place, _git("rev-parse", "--short", "HEAD").strip()


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", ROOT, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


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
