"""Is there room for what will be installed? Needs are data: data/preflight.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from provisioner import data
from provisioner.facts import RESOURCES
from provisioner.facts.resources import Space
from provisioner.preflight.situation import Problem, Situation

MIB = 1 << 20
ROOM = "make room: apt-get clean or dnf clean all, journalctl --vacuum-size=200M, docker system df"


@dataclass
class _Need:
    """What several steps need on one file system."""

    mib: int = 0
    files: int = 0
    whys: list[str] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        told = row["why"] in self.whys
        if told and row.get("once"):
            return
        self.mib += row["mib"]
        self.files += row.get("files", 0)
        if not told:
            self.whys.append(row["why"])


def space_problems(situation: Situation) -> Iterator[Problem]:
    resources = situation.facts[RESOURCES]
    for mount, need in _needs(situation).items():
        space = resources.mounts.get(mount)
        if space is not None:
            yield from _problems(mount, space, need)


def image_note(situation: Situation) -> Iterator[str]:
    """Docker's disk may do for the installation and still be too small for an image."""
    if "docker" not in situation.ahead.installing:
        return
    mount = situation.facts[RESOURCES].mount_of(situation.docker_root)
    space = situation.facts[RESOURCES].mounts.get(mount)
    wanted = data.load("preflight")["image_mib"]
    if space is not None and space.free_bytes < wanted * MIB:
        yield (
            f"{mount} holds {shown(space.free_bytes)} free for images; a PyTorch image with CUDA "
            f"takes about {shown(wanted * MIB)}"
        )


def shown(size: int) -> str:
    """``768 MiB``, ``1.5 GiB``."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size // MIB} MiB"


def _needs(situation: Situation) -> dict[str, _Need]:
    table = data.load("preflight")
    needs: dict[str, _Need] = {}
    for step in situation.ahead.installing:
        for row in table["space"].get(step, [table["space_otherwise"]]):
            need = needs.setdefault(_mount(row, situation), _Need())
            need.add(row)
    return needs


def _mount(row: dict[str, Any], situation: Situation) -> str:
    path = situation.docker_root if row["path"] == "docker-root" else row["path"]
    return situation.facts[RESOURCES].mount_of(path)


def _problems(mount: str, space: Space, need: _Need) -> Iterator[Problem]:
    if space.read_only:
        yield Problem(
            f"{mount} is mounted read-only",
            f"look for disk errors (dmesg), then: mount -o remount,rw {mount}",
        )
    elif space.free_bytes < need.mib * MIB:
        yield Problem(
            f"{mount} holds {shown(space.free_bytes)} free, {shown(need.mib * MIB)} are needed "
            f"({', '.join(need.whys)})",
            ROOM,
        )
    if space.free_files is not None and space.free_files < need.files and not space.read_only:
        yield Problem(
            f"{mount} has room for {space.free_files} more files (inodes), {need.files} are needed",
            f"delete files on {mount}: du --inodes -x {mount} | sort -n | tail",
        )
