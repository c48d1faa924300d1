"""The upload script, run for real: a file is wholly there or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from provisioner.transport.upload import get_command, put_command

OLD, NEW = b"old content\n", b"new\x00content\xff" * 1000


def put(
    path: Path | PurePosixPath,
    data: bytes = NEW,
    *,
    mode: int = 0o644,
    cwd: Path | None = None,
    arriving: bytes | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Upload ``data``; ``arriving`` is what really comes in on standard input."""
    line = put_command(data, PurePosixPath(path), mode=mode).render()
    received = data if arriving is None else arriving
    return subprocess.run(["sh", "-c", line], input=received, capture_output=True, cwd=cwd)


@pytest.mark.parametrize(("mode", "directory"), [(0o644, 0o755), (0o600, 0o700), (0o640, 0o700)])
def test_a_new_file_in_a_new_directory(tmp_path: Path, mode: int, directory: int) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert put(path, mode=mode).returncode == 0
    assert path.read_bytes() == NEW
    assert path.parent.stat().st_mode & 0o777 == directory, "as open as the file, not more"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o400])
def test_the_mode_is_exact_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    previous = os.umask(0o027)
    try:
        put(tmp_path / "file", mode=mode)
    finally:
        os.umask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o7777 == mode


def test_an_existing_file_is_replaced_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with path.open("rb") as reader:  # a program that runs the old file keeps it
        assert put(path).returncode == 0
        assert reader.read() == OLD
    assert path.read_bytes() == NEW
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("arriving", [b"", NEW[:-1], NEW + b"x"])
def test_a_cut_upload_leaves_the_old_file_and_no_litter(tmp_path: Path, arriving: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    done = put(path, arriving=arriving)
    assert done.returncode == 74
    assert f"received {len(arriving)} of {len(NEW)} bytes".encode() in done.stderr
    assert path.read_bytes() == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "line\nbreak",
        'it\'s "quoted"',
        "$(touch injected)",
        "`touch injected`; touch injected",
        "*",
        "-rf",
        "-",
        "--help",
        "größe",
        "trailing\n",
    ],
)
def test_any_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    assert put(PurePosixPath(name), cwd=tmp_path).returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == NEW


@pytest.mark.parametrize("directory", ["two words", "-p", "line\nbreak"])
def test_any_directory_is_only_a_directory(tmp_path: Path, directory: str) -> None:
    assert put(PurePosixPath(directory) / "file", cwd=tmp_path).returncode == 0
    assert (tmp_path / directory / "file").read_bytes() == NEW


def test_a_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(OLD)
    (tmp_path / "file").symlink_to("elsewhere")
    assert put(tmp_path / "file").returncode == 0
    assert (tmp_path / "elsewhere").read_bytes() == OLD
    assert (tmp_path / "file").read_bytes() == NEW


def test_an_empty_file(tmp_path: Path) -> None:
    assert put(tmp_path / "file", b"").returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_a_target_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    done = put(tmp_path / "file" / "below")
    assert done.returncode != 0
    assert done.stderr
    assert (tmp_path / "file").read_bytes() == OLD


def test_content_and_arguments_of_the_command() -> None:
    command = put_command(b"secret", PurePosixPath("/etc/x"), mode=0o600, sudo=True)
    assert command.sudo
    assert command.stdin == b"secret"
    assert "secret" not in str(command)
    assert get_command(PurePosixPath("-x")).words == ("cat", "--", "-x")
