"""The fact and the step's commands over real directories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provisioner.facts.base import PRELUDE, Output
from provisioner.facts.directories import SCRIPT, Directory, parse
from provisioner.steps.directories import OWN_EMPTY


def looked_at(path: Path) -> Directory:
    done = subprocess.run(
        ["sh", "-s"],
        input=f"{PRELUDE}DIRECTORIES={path}\n{SCRIPT}",
        capture_output=True,
        text=True,
        timeout=60,
    )
    return parse(Output(done.stdout, done.returncode)).found[str(path)]


def taken_over(path: Path, tmp_path: Path) -> bool:
    """Whether the command of the step comes as far as chown(1), which here does nothing."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin/chown").write_text("#!/bin/sh\n")
    (tmp_path / "bin/chown").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    user = os.environ.get("USER", "root")
    command = ["sh", "-c", OWN_EMPTY, "sh", str(path), user]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("names", "empty"),
    [((), True), (("lost+found",), True), (("lost+found", "data"), False), ((".hidden",), False)],
)
def test_empty_but_for_what_every_fresh_file_system_has(
    names: tuple[str, ...], empty: bool, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    for name in ("", *names):
        (disk / name).mkdir()
    assert looked_at(disk).empty is empty
    assert taken_over(disk, tmp_path) is empty


def test_a_directory_that_cannot_be_listed_is_not_taken_over(tmp_path: Path) -> None:
    assert not taken_over(tmp_path / "missing", tmp_path)
