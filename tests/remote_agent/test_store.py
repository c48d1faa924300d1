"""Jobs on disk."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace

import pytest

from remote_agent import store as module
from remote_agent.faults import AgentFault
from remote_agent.files import read_json
from remote_agent.layout import Layout
from remote_agent.processes import machine_id
from remote_agent.protocol.job import (
    DAMAGED,
    FAILED,
    FINAL,
    LOST,
    QUEUED,
    RUNNING,
    STARTING,
    STOPPED,
    SUCCEEDED,
    TRANSITIONS,
    ImagePlan,
    JobSpec,
)
from remote_agent.store import JobStore

SPEC = JobSpec("job-1", "one", ("true",), env={"TOKEN": "s3cret"})


@pytest.fixture
def layout(tmp_path):
    return Layout.open(str(tmp_path / "state"))


@pytest.fixture
def store(layout):
    return JobStore(layout, clock=lambda: 1000.0)


def advance(store, *states):
    for state in states:
        store.transition("job-1", state)


def test_a_new_job_is_queued_and_private(store, layout):
    record, new = store.create(SPEC, "boot")
    assert (record.state, record.created_at, record.spec, new) == (QUEUED, 1000.0, SPEC, True)
    paths = layout.job("job-1")
    assert os.stat(paths.spec).st_mode & 0o777 == 0o600
    assert os.stat(paths.root).st_mode & 0o777 == 0o700
    assert "s3cret" not in repr(record)


def test_the_same_again_changes_nothing(store):
    store.create(SPEC, "boot")
    advance(store, STARTING)
    record, new = store.create(SPEC, "boot")
    assert (record.state, new) == (STARTING, False)


def test_another_spec_under_the_same_id_is_refused(store, layout):
    store.create(SPEC, "boot")
    with pytest.raises(AgentFault) as caught:
        store.create(JobSpec("job-1", "one", ("false",)), "boot")
    assert caught.value.code == "job-exists"
    assert os.listdir(layout.jobs) == ["job-1"]


def test_only_the_table_moves_a_job(store):
    for index, (state, following) in enumerate(TRANSITIONS.items()):
        job_id = f"job-{index + 10}"
        store.create(JobSpec(job_id, "x", ("true",)), "boot")
        path = store.layout.job(job_id).state
        for wanted in TRANSITIONS:
            with open(path, "w") as file:
                json.dump({"state": state, "created_at": 1.0, "boot_id": "boot"}, file)
            if wanted in following:
                assert store.transition(job_id, wanted).state == wanted
                continue
            with pytest.raises(AgentFault) as caught:
                store.transition(job_id, wanted)
            assert caught.value.code == "illegal-transition"


@pytest.mark.parametrize("final", sorted(FINAL))
def test_final_states_get_their_time(store, final):
    store.create(SPEC, "boot")
    advance(store, STARTING, RUNNING, final)
    assert store.record("job-1").ended_at == 1000.0
    assert store.record("job-1").is_final


def test_two_stores_see_each_others_changes(store, layout):
    other = JobStore(layout)
    store.create(SPEC, "boot")
    assert other.record("job-1").state == QUEUED
    advance(store, STARTING, RUNNING)
    assert other.record("job-1").state == RUNNING
    with open(layout.job("job-1").log, "ab") as log:
        log.write(b"12345")
    assert other.record("job-1").log_bytes == 5


def test_exactly_one_takes_over_an_orphan(store):
    store.create(SPEC, "boot")
    assert not store.take_over("job-1", lambda details: True, supervisor=1)
    advance(store, STARTING)
    assert store.take_over("job-1", lambda details: True, supervisor=None)
    advance(store, RUNNING)
    orphaned = lambda details: details.get("supervisor") is None  # noqa: E731
    assert store.take_over("job-1", orphaned, supervisor=1)
    assert not store.take_over("job-1", orphaned, supervisor=2)
    assert store.details("job-1")["supervisor"] == 1


def test_a_clock_that_goes_back_does_not_reorder_the_queue(layout):
    times = iter([7200.0, 3600.0, 5400.0])
    store = JobStore(layout, clock=lambda: next(times))
    for job_id in ("job-c", "job-a", "job-b"):
        store.create(JobSpec(job_id, "x", ("true",)), "boot")
    os.mkdir(os.path.join(layout.jobs, ".job-x.77"))
    os.mkdir(os.path.join(layout.jobs, "job-broken"))
    for look in (store.records, JobStore(layout).records, store.unfinished):
        assert [record.job_id for record in look()] == ["job-c", "job-a", "job-b"]
    assert [record.sequence for record in store.records()] == [1, 2, 3]


def test_jobs_of_an_agent_that_did_not_count_come_first_by_their_times(layout):
    store = JobStore(layout, clock=lambda: 10.0)
    for job_id, created_at in (("job-a", 3000.0), ("job-b", 1000.0), ("job-c", 2000.0)):
        store.create(JobSpec(job_id, "x", ("true",)), "boot")
        old = {"state": QUEUED, "created_at": created_at, "boot_id": "boot"}
        with open(layout.job(job_id).state, "w") as file:
            json.dump(old, file)
    store.create(JobSpec("job-d", "x", ("true",)), "boot")
    assert [record.job_id for record in store.records()] == ["job-b", "job-c", "job-a", "job-d"]


def test_places_in_the_queue_are_given_once(layout):
    stores = [JobStore(layout) for _ in range(4)]

    def submit(number):
        for count in range(10):
            stores[number].create(JobSpec(f"job-{number}-{count}", "x", ("true",)), "boot")

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.sequence for record in stores[0].records()) == list(range(1, 41))


def test_unchanged_files_are_not_read_again(store, layout, monkeypatch):
    store.create(SPEC, "boot")
    store.create(JobSpec("job-2", "two", ("true",)), "boot")
    store.transition("job-2", STOPPED)
    store.records()
    read, looked_at = [], []
    monkeypatch.setattr(
        module, "read_json", lambda path, do=module.read_json: read.append(path) or do(path)
    )
    monkeypatch.setattr(
        module, "_stamp", lambda paths, do=module._stamp: looked_at.append(paths) or do(paths)
    )
    for _ in range(5):
        assert len(store.records()) == 2
        assert store.details("job-1")["state"] == QUEUED
        assert [record.job_id for record in store.unfinished()] == ["job-1"]
    assert read == []
    del looked_at[:]
    store.unfinished()
    assert [paths.root for paths in looked_at] == [layout.job("job-1").root]


def test_remove_wants_a_final_job(store, layout):
    store.create(SPEC, "boot")
    with pytest.raises(AgentFault) as caught:
        store.remove("job-1")
    assert caught.value.code == "not-final"
    advance(store, STOPPED)
    locked = os.path.join(layout.job("job-1").work, "readonly")
    os.makedirs(os.path.join(locked, "below"))
    os.chmod(locked, 0o500)
    store.remove("job-1")
    assert os.listdir(layout.jobs) == []


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, image="x:1", image_plan=ImagePlan(sender="ann@laptop")),
        replace(SPEC, gpus=1, gpu_indices=(3,)),
    ],
)
def test_a_job_that_older_versions_do_not_understand_is_none_for_them(store, layout, spec):
    """They take only jobs whose state names exactly their machine: else one that starts at a boot
    would run the job without its image, or on other GPUs."""
    store.create(spec, "boot")
    told = read_json(layout.job("job-1").state)["machine"]
    assert told not in ("", machine_id())
    assert [record.spec for record in JobStore(layout).records()] == [spec]
    assert JobStore(layout, machine="other").records() == []
    store.transition("job-1", STARTING)
    assert store.record("job-1").state == STARTING
    assert read_json(layout.job("job-1").state)["machine"] == told


def test_a_job_that_older_versions_understand_is_theirs_too(store, layout):
    store.create(SPEC, "boot")
    assert read_json(layout.job("job-1").state)["machine"] == machine_id()


def test_another_machine_with_the_same_home_is_left_alone(store, layout):
    other = JobStore(layout, machine="other")
    store.create(SPEC, "boot")
    assert other.records() == []
    with pytest.raises(AgentFault, match="another machine"):
        other.record("job-1")
    other.create(JobSpec("job-2", "two", ("true",)), "boot")
    assert [record.job_id for record in store.records()] == ["job-1"]


def test_leftovers_of_killed_processes_are_cleared_when_old(layout):
    now = [os.stat(layout.jobs).st_mtime]
    store = JobStore(layout, clock=lambda: now[0])
    os.mkdir(os.path.join(layout.jobs, ".job-x.77"))
    store.clear_leftovers()
    assert os.listdir(layout.jobs)
    now[0] += 4000.0
    store.clear_leftovers()
    assert not os.listdir(layout.jobs)


def test_a_leftover_that_cannot_be_deleted_does_not_hide_the_others(layout, monkeypatch, capfd):
    store = JobStore(layout, clock=lambda: os.stat(layout.jobs).st_mtime + 4000.0)
    for name in (".job-a.1", ".job-b.2"):
        os.mkdir(os.path.join(layout.jobs, name))

    def refuse_one(path, remove=module.remove_tree):
        if path.endswith(".job-a.1"):
            raise PermissionError(13, "a container's files")
        remove(path)

    monkeypatch.setattr(module, "remove_tree", refuse_one)
    store.clear_leftovers()
    assert os.listdir(layout.jobs) == [".job-a.1"]
    assert ".job-a.1" in capfd.readouterr().err


DAMAGE = [
    "",
    "{}",
    "[]",
    '{"state": "running"}',
    '{"state": [1], "created_at": 1.0}',
    "\udc80",
    None,
]


def damage(path, content):
    os.unlink(path)
    if content is not None:
        with open(path, "w", errors="surrogateescape") as file:
            file.write(content)


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["state", "spec"])
def test_a_damaged_job_is_shown_as_such_beside_the_others(layout, capfd, name, content):
    store = JobStore(layout)
    store.create(SPEC, "boot")
    store.create(JobSpec("job-2", "two", ("true",)), "boot")
    damage(getattr(layout.job("job-1"), name), content)
    for _ in range(2):
        states = {record.job_id: record.state for record in JobStore(layout).records()}
        assert states == {"job-1": DAMAGED, "job-2": QUEUED}
    record = JobStore(layout).record("job-1")
    assert record.verdict.cause == DAMAGED
    assert layout.job("job-1").root in record.verdict.evidence
    assert "rigup stop" in record.verdict.hint
    assert not record.is_final
    assert record.spec.argv
    assert layout.job("job-1").root in capfd.readouterr().err
    fresh = JobStore(layout)
    with pytest.raises(AgentFault) as caught:
        fresh.details("job-1")
    assert caught.value.code == "damaged-job"
    if name == "state":
        with pytest.raises(AgentFault) as caught:
            fresh.transition("job-1", STOPPED)
        assert caught.value.code == "damaged-job"


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["state", "spec"])
def test_a_repaired_job_is_readable_and_the_damage_is_kept(layout, name, content):
    store = JobStore(layout)
    store.create(SPEC, "boot")
    state = store.details("job-1")
    assert not store.repair("job-1", state, SPEC, lambda: True), "it is not damaged"
    path = getattr(layout.job("job-1"), name)
    damage(path, content)
    assert not store.repair("job-1", state, SPEC, lambda: False)
    assert store.repair("job-1", dict(state, state=RUNNING), SPEC, lambda: True)
    assert JobStore(layout).record("job-1").state == RUNNING
    assert JobStore(layout).record("job-1").spec == SPEC
    if content:
        with open(path + ".damaged", errors="surrogateescape") as file:
            assert file.read() == content


@pytest.mark.parametrize("job_id", ["", "..", "a", "../job-1", "JOB", "job/1", None, 5])
def test_strange_ids_are_no_jobs(store, job_id):
    with pytest.raises(AgentFault) as caught:
        store.record(job_id)
    assert caught.value.code == "no-such-job"


def test_states_are_all_there():
    assert DAMAGED not in TRANSITIONS
    assert set(TRANSITIONS) == {QUEUED, STARTING, RUNNING, SUCCEEDED, FAILED, STOPPED, LOST}
