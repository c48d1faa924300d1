"""GPUs of this user's running jobs count as taken, whoever holds their leases."""

from __future__ import annotations

import pytest

from remote_agent.layout import Layout
from remote_agent.own_gpus import LOOK_AGAIN_S, OwnGpus
from remote_agent.protocol.job import LOST, RUNNING, STARTING, JobSpec
from remote_agent.store import JobStore


@pytest.fixture
def store(tmp_path):
    found = JobStore(Layout.open(str(tmp_path / "state")))
    for job_id in ("train-1", "train-2", "train-3"):
        found.create(JobSpec(job_id, job_id, ("true",)), "this-boot")
    found.transition("train-1", STARTING, gpu_uuids=["GPU-1", "GPU-2"])
    found.transition("train-1", RUNNING)
    found.transition("train-2", STARTING, gpu_uuids=["GPU-3"])
    return found


def test_those_of_jobs_under_way(store):
    own = OwnGpus(store, lambda *words: None)
    assert own.jobs() == {"GPU-1": "train-1", "GPU-2": "train-1", "GPU-3": "train-2"}
    store.transition("train-1", LOST)
    assert own.jobs() == {"GPU-3": "train-2"}


def test_what_is_over_without_having_said_so_does_not_count(store):
    looks, now = [], [0.0]

    def reconcile(store, boot_id, recover):
        looks.append(boot_id)
        store.transition("train-2", LOST)

    own = OwnGpus(store, reconcile, lambda: now[0])
    assert own.jobs() == {"GPU-1": "train-1", "GPU-2": "train-1"}
    own.jobs()
    assert len(looks) == 1
    now[0] += LOOK_AGAIN_S
    store.transition("train-1", LOST)
    store.create(JobSpec("train-4", "train-4", ("true",)), "this-boot")
    with pytest.raises(Exception, match="train-2"):
        own.jobs()
    assert len(looks) == 2


@pytest.mark.parametrize("value", [None, 5, "GPU-1", {"GPU-1": 1}, [7, None]])
def test_damaged_details_name_no_gpus(store, monkeypatch, value):
    monkeypatch.setattr(store, "details", lambda job_id: {"gpu_uuids": value})
    assert OwnGpus(store, lambda *words: None).jobs() == {}
