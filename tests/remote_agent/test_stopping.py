"""A stop request reaches the supervisor even where nothing can be written any more."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import pytest

from remote_agent import stopping as module
from remote_agent.faults import AgentFault
from remote_agent.layout import Layout
from remote_agent.processes import identify
from remote_agent.protocol.job import STARTING, JobSpec
from remote_agent.stopping import DEFAULT_GRACE_S, ask_to_stop, requested_grace, stop_running
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


def nothing_can_be_written(monkeypatch):
    monkeypatch.setattr(module, "write_json", full)
    monkeypatch.setattr(module, "_leave_bare_request", full)


@pytest.fixture
def running(paths, tmp_path):
    store = JobStore(Layout.open(str(tmp_path / "state")))
    supervisor = subprocess.Popen(["sleep", "1000"])
    identity = identify(supervisor.pid).to_json()
    store.transition("job-1", STARTING, supervisor=identity, stop_signal=int(signal.SIGUSR2))
    yield store, supervisor
    supervisor.kill()
    supervisor.wait()


def stop(store, unwritten):
    steps = stop_running(store, "job-1", 0.0, lambda: None, unwritten)
    return next(steps)


def test_a_request_that_cannot_be_written_travels_as_a_signal(paths, running, monkeypatch):
    store, supervisor = running
    nothing_can_be_written(monkeypatch)
    unwritten = ask_to_stop(paths, 3.5)
    assert unwritten.errno == errno.ENOSPC
    assert not os.path.exists(paths.stop)
    stop(store, unwritten)
    assert supervisor.wait(60) == -signal.SIGUSR2


@pytest.mark.parametrize("state", [{"stop_signal": None}, {"stop_signal": 9}, {"supervisor": None}])
def test_where_nobody_understands_the_signal_the_stop_fails(paths, running, monkeypatch, state):
    """A supervisor of an older agent would be killed by it."""
    store, supervisor = running
    store.take_over("job-1", lambda details: True, **state)
    nothing_can_be_written(monkeypatch)
    with pytest.raises(AgentFault, match=r"stop request could not be written.*No space") as caught:
        stop(store, ask_to_stop(paths, 3.5))
    assert caught.value.code == "io-error"
    assert supervisor.poll() is None


def test_a_job_that_does_not_end_in_time_is_no_success(paths, running, monkeypatch):
    store, _ = running
    monkeypatch.setattr(module, "MARGIN_S", -1.0)
    monkeypatch.setattr(module, "write_problem", lambda directory: "No space left on device")
    with pytest.raises(AgentFault, match=r"is still starting: none of its.*No space.*df") as caught:
        stop(store, None)
    assert caught.value.code == "not-stopped"
    assert "the request stays" in caught.value.message
    assert "docker" not in caught.value.message


def test_a_container_that_does_not_end_in_time_has_a_way_to_end_it(tmp_path, monkeypatch):
    store = JobStore(Layout.open(str(tmp_path / "state")))
    spec = JobSpec("job-1", "one", ("true",), runtime="container", image="x")
    store.create(spec, "boot")
    store.transition("job-1", STARTING)
    monkeypatch.setattr(module, "MARGIN_S", -1.0)
    with pytest.raises(AgentFault, match=r"Docker.*docker rm -f rigup-job-1"):
        stop(store, None)
