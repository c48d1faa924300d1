"""Deleting what a job has left, whatever it did to its directories."""

from __future__ import annotations

import os
import stat
import sys

import pytest
from ordinary_user import as_ordinary_user, directory_of_ordinary_user

from remote_agent.tree_removal import NotRemoved, remove_tree

DEPTH = 1100


@pytest.fixture
def place():
    with directory_of_ordinary_user() as path:
        yield path


@pytest.mark.parametrize("mode", [0o500, 0o400, 0o100, 0o000])
def test_directories_that_their_owner_made_unwritable(place, mode):
    def attack():
        below = place / "job" / "locked" / "below"
        below.mkdir(parents=True)
        (below / "file").write_text("x")
        (below / "file").chmod(0)
        (below.parent / "file").write_text("x")
        for directory in (below, below.parent, place / "job"):
            directory.chmod(mode)
        remove_tree(str(place / "job"))
        assert not os.path.lexists(place / "job")

    as_ordinary_user(attack)


def test_more_nested_directories_than_python_recurses_or_may_open(place):
    def attack():
        here = os.open(place, os.O_RDONLY)
        for _ in range(DEPTH):
            os.mkdir("deep", dir_fd=here)
            os.mkdir("deep2", dir_fd=here)
            following = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = following
        os.close(here)
        remove_tree(str(place / "deep"))
        remove_tree(str(place / "deep2"))
        assert os.listdir(place) == []

    assert sys.getrecursionlimit() < DEPTH
    as_ordinary_user(attack)


def test_symlinks_are_deleted_and_their_targets_keep_contents_and_modes(place):
    def attack():
        kept = place / "kept"
        kept.mkdir()
        (kept / "file").write_text("x")
        kept.chmod(0o500)
        job = place / "job"
        job.mkdir()
        (job / "link").symlink_to(kept)
        (job / "loop").symlink_to(job)
        (job / "dangling").symlink_to("nowhere")
        job.chmod(0o500)
        remove_tree(str(job))
        assert stat.S_IMODE(kept.stat().st_mode) == 0o500
        assert (kept / "file").read_text() == "x"
        assert os.listdir(place) == ["kept"]

    as_ordinary_user(attack)


def test_a_root_that_is_a_symlink_is_only_unlinked_by_nobody(place):
    def attack():
        (place / "kept").mkdir()
        (place / "kept" / "file").write_text("x")
        (place / "job").symlink_to("kept")
        with pytest.raises(NotRemoved):
            remove_tree(str(place / "job"))
        assert (place / "kept" / "file").exists()

    as_ordinary_user(attack)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        remove_tree(str(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another user")
def test_files_of_another_user_are_named_and_the_rest_is_deleted(place):
    theirs = place / "job" / "outputs" / "root"
    theirs.mkdir(parents=True)
    for number in range(5):
        (theirs / f"file{number}").write_text("x")
    (place / "job" / "mine").write_text("x")
    for path in (place / "job", place / "job" / "outputs", place / "job" / "mine"):
        os.chown(path, 65534, 65534)

    def attack():
        with pytest.raises(NotRemoved) as caught:
            remove_tree(str(place / "job"))
        assert len(caught.value.paths) == 5
        assert str(theirs / "file") in str(caught.value)
        assert "and 2 more" in str(caught.value)
        assert f"sudo rm -rf {place / 'job'}" in str(caught.value)

    as_ordinary_user(attack)
    assert sorted(path.name for path in (place / "job").iterdir()) == ["outputs"]
    assert len(list(theirs.iterdir())) == 5


def test_no_descriptor_is_left_open(tmp_path):
    before = sorted(os.listdir("/proc/self/fd"))
    (tmp_path / "job" / "a" / "b").mkdir(parents=True)
    remove_tree(str(tmp_path / "job"))
    assert sorted(os.listdir("/proc/self/fd")) == before
