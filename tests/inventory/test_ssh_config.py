"""Which names of an SSH configuration can be used like hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.ssh_config import ssh_config_names


@pytest.fixture
def ssh_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = tmp_path / ".ssh"
    directory.mkdir()
    return directory


def names(ssh_dir: Path, text: str) -> set[str]:
    (ssh_dir / "config").write_text(text)
    return set(ssh_config_names(ssh_dir / "config"))


def test_concrete_aliases_only(ssh_dir: Path) -> None:
    text = """
# Host comment
Host gpu01 gpu02   # Host trailing
    HostName 192.0.2.1
host=equals
HOST = "quoted" tail
Host * !gpu03 gpu? *.example
Match host matched
    User x
  Host	indented
"""
    assert names(ssh_dir, text) == {"gpu01", "gpu02", "equals", "quoted", "tail", "indented"}


def test_names_that_could_be_options_or_shell_are_left_out(ssh_dir: Path) -> None:
    assert names(ssh_dir, "Host -oProxyCommand=x a;b $(id) me@host fine\n") == {"fine"}


def test_includes_are_followed(ssh_dir: Path, tmp_path: Path) -> None:
    (ssh_dir / "conf.d").mkdir()
    (ssh_dir / "conf.d" / "one").write_text("Host one\n")
    (ssh_dir / "conf.d" / "two").write_text("Host two\nInclude nested\n")
    (ssh_dir / "nested").write_text("Host nested\n")
    (tmp_path / "home-file").write_text("Host home\n")
    (tmp_path / "absolute").write_text("Host absolute\n")
    text = f"Include conf.d/* ~/home-file\ninclude {tmp_path}/absolute missing/*\nHost own\n"
    assert names(ssh_dir, text) == {"one", "two", "nested", "home", "absolute", "own"}


def test_a_circle_of_includes_ends(ssh_dir: Path) -> None:
    assert names(ssh_dir, "Host own\nInclude config\n") == {"own"}


def test_a_file_that_includes_itself_twice_ends_too(ssh_dir: Path) -> None:
    assert names(ssh_dir, "Host own\nInclude config config\nInclude c*\n") == {"own"}


def test_a_chain_of_includes_is_followed_as_far_as_ssh_does(ssh_dir: Path) -> None:
    for link in range(400):
        (ssh_dir / f"link{link}").write_text(f"Host h{link}\nInclude link{link + 1}\n")
    assert names(ssh_dir, "Include link0\n") == {f"h{link}" for link in range(16)}


def test_missing_directory_or_odd_bytes_do_no_harm(ssh_dir: Path) -> None:
    assert ssh_config_names(ssh_dir / "none") == frozenset()
    assert ssh_config_names(ssh_dir) == frozenset()
    (ssh_dir / "config").write_bytes(b'Host caf\xe9 "open\nHost fine\nInclude bad\0name\n')
    assert ssh_config_names(ssh_dir / "config") == {"fine"}
