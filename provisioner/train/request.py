"""What ``train`` was asked: a script or a launcher's line, GPUs, runtime."""

from __future__ import annotations

import ast
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from provisioner.errors import UsageError
from provisioner.sync import CodeTree, code_root, freeze
from provisioner.train import launcher as launchers
from provisioner.train.placement import GpuRequest
from remote_agent.protocol.job import CONTAINER, PROCESS

AUTO = "auto"
RUNTIMES = (AUTO, PROCESS, CONTAINER)
LARGEST_SCRIPT = 4 << 20
"""Bytes of a script that are searched for its imports."""
LOCAL_RANK_OPTION = re.compile(r"""["']--local_rank["']""")
NEW_LOCAL_RANK_OPTION = re.compile(r"""["']--local-rank["']""")


@dataclass(frozen=True)
class Script:
    """A script to run. ``root`` is what travels with it; ``started_in`` becomes the job's working
    directory when it lies below the root."""

    path: Path
    root: Path
    started_in: Path

    @property
    def directory(self) -> str:
        """The working directory below the root, "" for the root itself."""
        if not self.started_in.is_relative_to(self.root) or self.started_in == self.root:
            return ""
        return self.started_in.relative_to(self.root).as_posix()

    @property
    def argument(self) -> str:
        """The script's path as seen from the working directory."""
        return Path(os.path.relpath(self.path, self.root / self.directory)).as_posix()


@dataclass(frozen=True)
class Request:
    """What ``train`` was asked. ``launcher``: see :mod:`provisioner.train.launcher`. ``runtime``
    auto: a container where the host has Docker, else a process."""

    script: Script
    arguments: tuple[str, ...] = ()
    gpus: GpuRequest = field(default_factory=GpuRequest)
    launcher: str = launchers.AUTO
    launcher_options: tuple[str, ...] = ()
    runtime: str = AUTO
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: str | None = None

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise UsageError(f"--runtime {self.runtime}: expected auto, process or container")
        launchers.check_launcher(self.launcher)

    @property
    def needs_torch(self) -> bool:
        """Does the script itself import PyTorch, or a launcher that is part of it?"""
        asked = self.launcher in (launchers.TORCHRUN, launchers.ACCELERATE, launchers.OLD_LAUNCH)
        return asked or _imports_torch(self.script.path)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before the job is sent."""
        if self.launcher != launchers.OLD_LAUNCH:
            return ()
        text = _text(self.script.path)
        if not LOCAL_RANK_OPTION.search(text) or NEW_LOCAL_RANK_OPTION.search(text):
            return ()
        return (
            f"{self.script.argument} knows --local_rank only, and PyTorch 2 passes --local-rank: "
            'let it take both, add_argument("--local-rank", "--local_rank", …), or add --use_env '
            "to the line and read LOCAL_RANK",
        )


@dataclass(frozen=True)
class Words:
    """The program and arguments that a command line named. ``gpus`` and ``launcher`` are None
    where it does not say."""

    script: str
    arguments: tuple[str, ...]
    gpus: str | None = None
    launcher: str | None = None
    launcher_options: tuple[str, ...] = ()


def read_words(script: str | None, words: Sequence[str]) -> Words:
    """``--script`` with its arguments, or without it a whole line after ``--``, such as
    ``torchrun --nproc-per-node 4 train.py`` or ``python train.py``. Raises UsageError."""
    if script is not None:
        return Words(script, tuple(words))
    line = launchers.read_line(words)
    if line is not None:
        return Words(line.script, line.arguments, line.gpus, line.launcher, line.options)
    rest = launchers.without_interpreter(words)
    if rest and PurePath(rest[0]).suffix == ".py":
        return Words(rest[0], tuple(rest[1:]))
    what = "a module cannot be started" if rest[:1] == ["-m"] else "no script was named"
    raise UsageError(
        what,
        remedy="invoke train --script finetune_llama.py, or a whole line of python, torchrun or "
        "accelerate: invoke train -- torchrun --nproc-per-node 2 train.py",
    )


def find_script(name: str, directory: Path, examples: Path) -> Script:
    """``name`` in the current directory, then in the examples.

    Raises UsageError that lists where it looked and what is there.
    """
    here, example = directory / name, examples / name
    if here.is_file():
        path = here.resolve()
        return Script(path, code_root(path), directory.resolve())
    if example.is_file():
        return Script(example.resolve(), examples.resolve(), examples.resolve())
    shipped = ", ".join(sorted(path.name for path in examples.glob("*.py"))) or "none"
    raise UsageError(
        f"no script {name!r} in {directory} or {examples}",
        remedy=f"check the name, or use an example: {shipped}",
    )


def new_job_id(name: str, *, now: float | None = None) -> str:
    """``<name>-<month><day>-<time>-<random>``: unique, readable, sortable by eye."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32] or "job"
    moment = time.strftime("%m%d-%H%M%S", time.localtime(now))
    return f"{stem}-{moment}-{secrets.token_hex(2)}"


def freeze_code(request: Request) -> CodeTree:
    """The code as it is now. Raises UsageError."""
    return freeze(request.script.root, request.script.path)


def _imports_torch(path: Path) -> bool:
    """Told from the script's own text; what its other modules import is not looked at."""
    try:
        tree = ast.parse(_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(name.partition(".")[0] == "torch" for name in names)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_SCRIPT).decode("utf-8", "replace")
    except OSError:
        return ""
