"""A supervisor that breaks leaves nothing running."""

from __future__ import annotations

from typing import ClassVar

import pytest

from remote_agent import supervisor as module
from remote_agent.layout import Layout
from remote_agent.processes import Identity
from remote_agent.protocol.job import FAILED, LOST, STARTING, JobSpec
from remote_agent.runtimes.base import Runtime
from remote_agent.store import JobStore
from remote_agent.supervisor import Supervisor, _guarded


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
    _guarded(store, "job-1", (), (), Supervisor.run)
    assert Broken.calls == ["kill", "clean_up"]
    record = store.record("job-1")
    assert record.state == LOST
    assert "broken while watching" in record.verdict.evidence


def test_breaking_at_the_start_is_a_failure_to_start(store):
    Broken.calls.append("no-start")
    _guarded(store, "job-1", (), (), Supervisor.run)
    assert Broken.calls == ["no-start", "kill", "clean_up"]
    assert store.record("job-1").state == FAILED


def test_a_job_whose_start_was_cut_off_is_ended(store):
    with pytest.raises(OSError, match="gone"):
        Supervisor(store, "job-1", ()).run_recovered(None)
    assert Broken.calls == ["kill"]
