"""rigup's own directory: private, and every file whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner import home
from provisioner.home import known_hosts_file, rigup_home, transcripts_dir, write_private


def test_where_it_is() -> None:
    assert rigup_home({"RIGUP_HOME": "/data/rigup"}) == Path("/data/rigup")
    assert rigup_home({"RIGUP_HOME": "~/r"}) == Path.home() / "r"
    assert rigup_home({"RIGUP_HOME": "rel"}) == Path.cwd() / "rel"
    assert rigup_home({"RIGUP_HOME": ""}) == rigup_home({}) == Path.home() / ".rigup"


def test_the_environment_decides_when_asked_not_when_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
    assert known_hosts_file() == tmp_path / "known_hosts"
    assert transcripts_dir() == tmp_path / "transcripts"


def test_files_and_new_directories_are_the_owners_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write_private(tmp_path / "new" / "file", b"data")
    finally:
        os.umask(previous)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o600


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")
    with path.open("rb") as reader:
        write_private(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_private(path, b"old")
    monkeypatch.setattr(home.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
