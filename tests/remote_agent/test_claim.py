"""How a supervisor gets its job."""

from __future__ import annotations

import pytest

from remote_agent import claim as module
from remote_agent.layout import Layout
from remote_agent.protocol.job import QUEUED, STARTING, JobSpec
from remote_agent.store import JobStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_take_signals", lambda: None)
    monkeypatch.setattr(module, "make_cgroup", lambda job_id: None)
    found = JobStore(Layout.open(str(tmp_path / "state")))
    found.create(JobSpec("train-1", "train-1", ("true",)), "this-boot")
    return found


def test_a_job_is_not_claimed_when_the_host_is_about_to_reboot(store, monkeypatch):
    """The hold may come after the dispatcher has looked."""
    waiting = []
    monkeypatch.setattr(module, "reboot_is_due", lambda: True)
    monkeypatch.setattr(module, "start_dispatcher", waiting.append)
    module.supervise(store.layout, "train-1")
    assert store.record("train-1").state == QUEUED
    assert waiting == [store.layout], "somebody must start it if there is no reboot after all"


def test_else_it_is(store, monkeypatch):
    claimed = []
    monkeypatch.setattr(module, "reboot_is_due", lambda: False)
    monkeypatch.setattr(module, "guarded", lambda *words: claimed.append(words[1]))
    module.supervise(store.layout, "train-1")
    assert store.record("train-1").state == STARTING
    assert claimed == ["train-1"]
