"""A supervisor that breaks leaves nothing running."""

from __future__ import annotations

import os
import signal
import threading
from typing import ClassVar

import pytest

from remote_agent import supervisor as module
from remote_agent.layout import Layout
from remote_agent.processes import Identity
from remote_agent.protocol.job import FAILED, LOST, STARTING, STOPPED, SUCCEEDED, JobSpec
from remote_agent.runtimes.base import Ending, Runtime
from remote_agent.stopping import ask_to_stop
from remote_agent.store import JobStore
from remote_agent.supervisor import WAKING, Supervisor, guarded


class NoTree:
    """Stands in for the job's processes: none, so that the test's own are not ended."""

    cgroup = None

    def __init__(self, job_id):
        pass

    @classmethod
    def recorded(cls, job_id, paths, details):
        return cls(job_id)

    def add_self(self):
        pass

    def described(self):
        return []

    def remember(self, paths, pids):
        pass

    def add_root(self, process):
        pass

    def send(self, number):
        return 0

    def pids(self):
        return []


class Broken(Runtime):
    """Runs, then breaks while it is watched; even killing it fails."""

    calls: ClassVar[list[str]] = []

    def start(self):
        if self.calls == ["no-start"]:
            raise RuntimeError("broken at the start")
        self.process = Identity(4194301, 1)

    def poll(self, reaped):
        raise RuntimeError("broken while watching")

    def kill(self):
        self.calls.append("kill")
        raise OSError("docker is gone")

    def clean_up(self):
        self.calls.append("clean_up")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "runtime_class", lambda name: Broken)
    monkeypatch.setattr(module, "Tree", NoTree)
    monkeypatch.setattr(Broken, "calls", [])
    made = JobStore(Layout.open(str(tmp_path / "state")))
    made.create(JobSpec("job-1", "one", ("true",)), "boot")
    made.transition("job-1", STARTING)
    return made


def test_the_runtime_is_killed_and_cleaned_up(store):
    guarded(store, "job-1", (), (), Supervisor.run)
    assert Broken.calls == ["kill", "clean_up"]
    record = store.record("job-1")
    assert record.state == LOST
    assert "broken while watching" in record.verdict.evidence


def test_breaking_at_the_start_is_a_failure_to_start(store):
    Broken.calls.append("no-start")
    guarded(store, "job-1", (), (), Supervisor.run)
    assert Broken.calls == ["no-start", "kill", "clean_up"]
    assert store.record("job-1").state == FAILED


def test_a_job_whose_start_was_cut_off_is_ended(store):
    with pytest.raises(OSError, match="gone"):
        Supervisor(store, "job-1", ()).run_recovered(None)
    assert Broken.calls == ["kill"]


class Troubled(Broken):
    """Runs to its end on a host where the operating system refuses this and that."""

    polls: ClassVar[list[object]] = []

    def poll(self, reaped):
        found = self.polls.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def stop(self, grace_s):
        raise OSError(11, "Resource temporarily unavailable")

    def kill(self):
        self.calls.append("kill")

    def clean_up(self):
        raise OSError(30, "Read-only file system")


NO_ROOM = OSError(28, "No space left on device")


@pytest.fixture
def troubled(store, monkeypatch):
    monkeypatch.setattr(module, "runtime_class", lambda name: Troubled)
    monkeypatch.setattr(module, "RETRY_POLL_S", 0.0)
    monkeypatch.setattr(module, "is_alive", lambda process: True)
    return store


def test_an_error_while_watching_does_not_end_a_running_program(troubled, capfd):
    Troubled.polls[:] = [NO_ROOM, NO_ROOM, Ending(exit_code=0)]
    guarded(troubled, "job-1", (), (), Supervisor.run)
    assert troubled.record("job-1").state == SUCCEEDED
    assert Troubled.calls == []
    assert capfd.readouterr().err.count("No space left") == 1


def test_what_cannot_be_asked_to_end_is_killed_and_counts_as_stopped(troubled, monkeypatch):
    monkeypatch.setattr(module, "requested_grace", lambda paths: 0.01)
    paths = troubled.layout.job("job-1")
    monkeypatch.setattr(module, "prepare", lambda *others: None)

    def poll(self, reaped):
        ask_to_stop(paths, 0.01)
        return Ending(signal=9) if self.calls else None

    monkeypatch.setattr(Troubled, "poll", poll)
    guarded(troubled, "job-1", (), (), Supervisor.run)
    assert troubled.record("job-1").state == STOPPED
    assert Troubled.calls == ["kill"]


class GoingDown(Broken):
    """Ends once it was told that the host goes down."""

    def poll(self, reaped):
        if self.calls:
            return Ending(exit_code=3)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return None

    def host_goes_down(self):
        self.calls.append("host_goes_down")

    def clean_up(self):
        pass


@pytest.fixture
def terminated(store, monkeypatch):
    """SIGTERM is blocked, as in a supervisor; here in one thread of many, so it is sent to that."""
    monkeypatch.setattr(module, "runtime_class", lambda name: GoingDown)
    monkeypatch.setattr(module, "prepare", lambda *others: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WAKING)
    yield store
    signal.sigtimedwait([signal.SIGTERM], 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_sigterm_at_a_shutdown_is_told_to_the_runtime(terminated, monkeypatch):
    monkeypatch.setattr(module, "_host_goes_down", lambda: True)
    guarded(terminated, "job-1", (), (), Supervisor.run)
    assert GoingDown.calls == ["host_goes_down"]
    record = terminated.record("job-1")
    assert (record.state, record.verdict.cause) == (LOST, "reboot")


def test_sigterm_otherwise_ends_nothing(terminated, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "_host_goes_down", lambda: asked.append(1) and False)
    polls = iter([None, None, Ending(exit_code=3)])

    def poll(self, reaped):
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return next(polls)

    monkeypatch.setattr(GoingDown, "poll", poll)
    guarded(terminated, "job-1", (), (), Supervisor.run)
    assert GoingDown.calls == []
    assert asked
    assert terminated.record("job-1").verdict.exit_code == 3


def test_gpus_are_free_before_the_verdict_waits_for_room(troubled, monkeypatch):
    Troubled.polls[:] = [Ending(exit_code=0)]
    lease, writing = os.pipe()
    released = []
    conclude = module.StateWriter.conclude

    def late(self, state, verdict):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(writing)
        released.append(state)
        conclude(self, state, verdict)

    monkeypatch.setattr(module.StateWriter, "conclude", late)
    guarded(troubled, "job-1", (), (writing,), Supervisor.run)
    os.close(lease)
    assert released == [SUCCEEDED]
