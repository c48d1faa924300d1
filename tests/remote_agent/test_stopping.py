"""A stop request reaches the supervisor even where nothing can be written any more."""

from __future__ import annotations

import errno
import os

import pytest

from remote_agent import stopping as module
from remote_agent.layout import Layout
from remote_agent.protocol.job import JobSpec
from remote_agent.stopping import DEFAULT_GRACE_S, ask_to_stop, requested_grace
from remote_agent.store import JobStore


@pytest.fixture
def paths(tmp_path):
    layout = Layout.open(str(tmp_path / "state"))
    JobStore(layout).create(JobSpec("job-1", "one", ("true",)), "boot")
    return layout.job("job-1")


def full(*arguments, **others):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_grace_period_travels(paths):
    ask_to_stop(paths, 3.5)
    assert requested_grace(paths) == 3.5


def test_on_a_full_disk_an_empty_file_asks(paths, monkeypatch):
    monkeypatch.setattr(module, "write_json", full)
    ask_to_stop(paths, 3.5)
    assert os.path.exists(paths.stop)
    assert requested_grace(paths) == DEFAULT_GRACE_S


def test_without_inodes_another_name_asks(paths, monkeypatch):
    monkeypatch.setattr(module, "write_json", full)
    monkeypatch.setattr(os, "open", full)
    ask_to_stop(paths, 3.5)
    assert os.path.exists(paths.stop)
    ask_to_stop(paths, 3.5)
    monkeypatch.undo()
    assert requested_grace(paths) == DEFAULT_GRACE_S


@pytest.mark.parametrize("text", ["", "[]", '{"grace_s": []}', '{"grace_s": "x"}'])
def test_a_damaged_request_is_a_request(paths, text):
    with open(paths.stop, "w") as file:
        file.write(text)
    assert requested_grace(paths) == DEFAULT_GRACE_S
