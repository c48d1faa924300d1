"""Containers that Docker did not remove while it was away are removed later: ours, by label."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_docker import FakeDocker

from remote_agent import operations
from remote_agent.faults import AgentFault
from remote_agent.files import try_lock
from remote_agent.layout import Layout
from remote_agent.operations import Operations
from remote_agent.processes import boot_id
from remote_agent.protocol.job import CONTAINER, STOPPED, JobSpec
from remote_agent.protocol.messages import Request
from remote_agent.store import JobStore
from remote_agent.sweep import LIMIT_S, jobs_with_leftovers, sweep


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    made = FakeDocker(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    made.answer("ps", "abc\n")
    return made


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    made = JobStore(Layout.open(str(tmp_path / "state")))
    for job_id, final, left in (
        ("job-left", True, True),
        ("job-clean", True, False),
        ("job-runs", False, True),
    ):
        made.create(JobSpec(job_id, "x", ("x",), runtime=CONTAINER, image="x"), boot_id())
        if final:
            made.transition(job_id, STOPPED)
        if left:
            Path(made.layout.job(job_id).container_env).touch()
    return made


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.when_slept = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.when_slept()


def test_only_what_a_finished_job_left_is_removed(store, docker):
    sweep(store.layout)
    assert jobs_with_leftovers(store) == []
    assert docker.calls == [
        ["ps", "--all", "--quiet", "--filter", "label=rigup.job=job-left"],
        ["rm", "--force", "--volumes", "abc"],
    ]
    assert os.path.exists(store.layout.job("job-runs").container_env)


def test_docker_is_waited_for(store, docker):
    clock = Clock()
    docker.away()
    clock.when_slept = lambda: docker.back() if clock.now > 60 else None
    sweep(store.layout, clock.sleep, clock)
    assert jobs_with_leftovers(store) == []
    assert clock.now < 80


def test_not_for_ever(store, docker):
    clock = Clock()
    docker.away()
    sweep(store.layout, clock.sleep, clock)
    assert clock.now == pytest.approx(LIMIT_S, abs=10)
    assert jobs_with_leftovers(store) == ["job-left"]


def test_what_cannot_be_removed_is_kept_in_mind(store, docker):
    clock = Clock()
    docker.answer("rm", err="driver failed to remove root filesystem", code=1)
    sweep(store.layout, clock.sleep, clock)
    assert jobs_with_leftovers(store) == ["job-left"]


def test_one_sweeps_at_a_time(store, docker):
    with try_lock(store.layout.sweep_lock) as ours:
        assert ours
        sweep(store.layout)
    assert docker.calls == []


@pytest.fixture
def agent(store: JobStore) -> Operations:
    return Operations(store.layout, lambda event: None, lambda request: None, lambda: False)


def test_the_next_contact_starts_it(store, agent, monkeypatch):
    started = []
    monkeypatch.setattr(operations, "start_sweep", started.append)
    agent.begin()
    assert started == [store.layout]
    os.unlink(store.layout.job("job-left").container_env)
    agent.begin()
    assert len(started) == 1


def test_a_job_is_removed_with_its_container_or_not_at_all(store, agent, docker):
    docker.away()
    request = Request(1, "remove", {"job_id": "job-left"})
    with pytest.raises(AgentFault, match="while Docker does not answer"):
        agent.handle(request)
    assert jobs_with_leftovers(store) == ["job-left"]
    docker.back()
    agent.handle(request)
    assert "job-left" not in os.listdir(store.layout.jobs)
