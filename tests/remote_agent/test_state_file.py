"""State files on a disk that is full (injected)."""

from __future__ import annotations

import errno
import os

import pytest

from remote_agent import state_file as module
from remote_agent.files import read_json
from remote_agent.layout import JobPaths
from remote_agent.state_file import RESERVE_BYTES, release_reserve, reserve, write_state


@pytest.fixture
def paths(tmp_path):
    made = JobPaths(str(tmp_path))
    write_state(made, {"state": "queued"})
    return made


def full(monkeypatch, number=errno.ENOSPC):
    def refuse(path, value):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "write_json", refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_reserve_takes_the_state_when_nothing_else_does(paths, monkeypatch, number):
    assert reserve(paths)
    assert os.stat(paths.reserve).st_blocks * 512 >= RESERVE_BYTES
    full(monkeypatch, number)
    write_state(paths, {"state": "failed"})
    assert read_json(paths.state) == {"state": "failed"}
    assert os.path.exists(paths.reserve), "the old state's block is the new reserve"


def test_without_a_reserve_the_error_is_raised_and_the_old_state_stays(paths, monkeypatch):
    full(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_state(paths, {"state": "failed"})
    assert read_json(paths.state) == {"state": "queued"}


def test_a_state_that_does_not_fit_is_not_cut(paths, monkeypatch):
    reserve(paths)
    full(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_state(paths, {"state": "x" * RESERVE_BYTES})
    assert read_json(paths.state) == {"state": "queued"}
    assert os.path.exists(paths.reserve)


def test_other_errors_do_not_use_it(paths, monkeypatch):
    reserve(paths)
    full(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        write_state(paths, {"state": "failed"})


def test_no_reserve_can_be_made_where_there_is_no_room(paths, monkeypatch):
    def refuse(fd, offset, length):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not reserve(paths)
    assert not os.path.exists(paths.reserve)


def test_it_goes_away(paths):
    assert reserve(paths)
    release_reserve(paths)
    release_reserve(paths)
    assert not os.path.exists(paths.reserve)
    assert read_json(paths.state) == {"state": "queued"}
