"""Outputs in pages: all of them, once, in order."""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

from remote_agent.outputs import hash_output, list_outputs, page_of_outputs, read_output
from remote_agent.protocol.snapshot import FILE, SKIPPED, SYMLINK
from remote_agent.tree_removal import remove_tree

PATHS = ["a-b", "a/1", "a/b/c", "a/b.txt", "a.txt", "b", "z/z/z"]


@pytest.fixture
def root(tmp_path):
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    return str(tmp_path)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_together_are_the_whole(root, limit):
    seen, more = [], True
    while more:
        page, more = page_of_outputs([root], seen[-1] if seen else "", limit)
        seen += [found.path for found in page]
    assert seen == [found.path for found in list_outputs([root])]
    assert sorted(seen) == sorted(PATHS)


def test_a_file_that_vanished_between_two_pages_is_no_obstacle(root):
    page, more = page_of_outputs([root], "a/b/bb-gone", 1)
    assert ([found.path for found in page], more) == (["a/b/c"], True)


def test_what_cannot_be_read_is_listed_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listed = {found.path: found for found in list_outputs([str(tmp_path)])}
    assert {path: found.kind for path, found in listed.items()} == {
        "file": FILE,
        "fifo": SKIPPED,
        "link": SYMLINK,
        "socket": SKIPPED,
    }
    assert listed["link"].target == "file"
    assert listed["fifo"].reason == "a named pipe"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every directory")
def test_an_unreadable_directory_is_listed_with_the_reason(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    [found] = list_outputs([str(tmp_path)])
    assert (found.path, found.kind, found.reason) == ("closed", SKIPPED, "Permission denied")


def test_directories_without_end_are_listed_as_far_as_paths_go(tmp_path):
    fd = os.open(str(tmp_path), os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    (tmp_path / "z").write_text("x")
    deep, last = list_outputs([str(tmp_path)])
    remove_tree(str(tmp_path / "d"))  # pytest's own clean-up recurses
    assert (deep.kind, last.path) == (SKIPPED, "z")
    assert "directories" in deep.reason


def test_a_name_that_is_no_utf8_is_listed_and_read(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).write_text("x")
    [found] = list_outputs([str(tmp_path)])
    assert found.path == name
    assert read_output([str(tmp_path)], name, 0, 9)[1] == b"x"


def test_an_identity_changes_with_every_replacement_and_write(tmp_path):
    roots, path = [str(tmp_path)], tmp_path / "a"
    path.write_bytes(b"one")
    seen = {read_output(roots, "a", 0, 9)[0]["identity"]}
    (tmp_path / "b").write_bytes(b"two")
    os.replace(str(tmp_path / "b"), str(path))
    seen.add(read_output(roots, "a", 0, 9)[0]["identity"])
    os.utime(str(path), ns=(1, 1))
    seen.add(read_output(roots, "a", 0, 9)[0]["identity"])
    assert len(seen) == 3
    assert {found.identity for found in list_outputs(roots) if found.path == "a"} <= seen


def test_holes_are_told_and_not_sent(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
        file.truncate(128 << 20)
    roots = [str(tmp_path)]
    result, data = read_output(roots, "sparse", 0, 1 << 20)
    if not result["hole"]:
        pytest.skip("this file system does not tell holes")
    assert data == b""
    result, data = read_output(roots, "sparse", result["hole"], 1 << 20)
    assert data.rstrip(b"\0") == b"end"


def test_the_hash_of_a_part(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    result, payload = _answer(hash_output([str(tmp_path)], "a", 2, 5))
    assert (result["sha256"], payload) == (hashlib.sha256(b"23456").hexdigest(), b"")


def _answer(steps):
    """What a generator of steps returns."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value


def test_a_directory_in_the_place_of_the_link_counts_as_well(tmp_path):
    for root, name in (("outputs", "a"), ("work", "a"), ("work", "b")):
        (tmp_path / root).mkdir(exist_ok=True)
        (tmp_path / root / name).write_text(root)
    roots = [str(tmp_path / "outputs"), str(tmp_path / "work")]
    assert [found.path for found in list_outputs(roots)] == ["a", "b"]
    assert read_output(roots, "a", 0, 9)[1] == b"outputs"
    assert read_output(roots, "b", 0, 9)[1] == b"work"


def test_outputs_that_the_program_removed_are_none(tmp_path):
    assert page_of_outputs([str(tmp_path / "gone")], "") == ([], False)


def test_a_page_ends_where_its_texts_are_long(root, monkeypatch):
    monkeypatch.setattr("remote_agent.outputs.OUTPUTS_PAGE_TEXT", 1)
    page, more = page_of_outputs([root], "", 100)
    assert (len(page), more) == (1, True)
    page, more = page_of_outputs([root], "b", 100)
    assert ([found.path for found in page], more) == (["z/z/z"], False)


def test_a_file_that_is_cut_while_it_is_read_is_told_as_it_is_then(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    real = os.pread

    def pread(fd, length, offset):
        data = real(fd, length, offset)
        os.truncate(str(path), 4)
        return data

    monkeypatch.setattr("remote_agent.outputs.os.pread", pread)
    result, data = read_output([str(tmp_path)], "a", 2, 8)
    assert (result["size"], data) == (4, b"23")
    assert result["identity"].split(":")[2] == "4"
