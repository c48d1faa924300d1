"""The disk says running: is it?"""

from __future__ import annotations

import pytest

from remote_agent.layout import Layout
from remote_agent.processes import Identity, identify, is_alive
from remote_agent.protocol.job import LOST, QUEUED, RUNNING, STARTING, JobSpec
from remote_agent.reconcile import reconcile
from remote_agent.store import JobStore

SUPERVISOR, PROGRAM = Identity(100, 5), Identity(200, 6)


@pytest.fixture
def store(tmp_path):
    return JobStore(Layout.open(str(tmp_path / "state")))


def running(store, boot_id="boot-now", state=RUNNING, runtime="process"):
    store.create(JobSpec("job-1", "one", ("true",), runtime=runtime), boot_id)
    if state == QUEUED:
        return
    store.transition("job-1", STARTING, boot_id=boot_id, supervisor=SUPERVISOR.to_json())
    if state == RUNNING:
        store.transition("job-1", RUNNING, process=PROGRAM.to_json(), pid=PROGRAM.pid)


def look(store, *alive, left=False, discard=None):
    recovered = []
    reconcile(
        store,
        "boot-now",
        recovered.append,
        alive=lambda identity: identity in alive,
        remains=lambda tree: left,
        discard=discard or pytest.fail,
    )
    return store.record("job-1"), recovered


@pytest.mark.parametrize("state", [STARTING, RUNNING])
def test_another_boot_id_means_a_reboot(store, state):
    running(store, "boot-before", state)
    record, recovered = look(store, SUPERVISOR, PROGRAM)
    assert (record.state, record.verdict.cause) == (LOST, "reboot")
    assert "again" in record.verdict.hint
    assert not recovered


def test_a_living_supervisor_is_left_alone(store):
    running(store)
    assert look(store, SUPERVISOR)[0].state == RUNNING


def test_a_dead_supervisor_with_a_living_program_is_recovered(store):
    running(store)
    record, recovered = look(store, PROGRAM)
    assert (record.state, recovered) == (RUNNING, ["job-1"])


@pytest.mark.parametrize("state", [STARTING, RUNNING])
def test_nothing_left_means_lost(store, state):
    running(store, state=state)
    record, recovered = look(store)
    assert (record.state, record.verdict.cause, recovered) == (LOST, "lost", [])


@pytest.mark.parametrize("state", [STARTING, RUNNING])
def test_what_a_dead_program_left_running_is_taken_over(store, state):
    running(store, state=state)
    record, recovered = look(store, left=True)
    assert (record.state, recovered) == (state, ["job-1"])


@pytest.mark.parametrize("state", [STARTING, RUNNING])
def test_a_container_may_run_although_every_process_of_ours_is_gone(store, state):
    running(store, state=state, runtime="container")
    record, recovered = look(store)
    assert (record.state, recovered) == (state, ["job-1"])


def test_a_container_lost_to_a_reboot_is_removed(store):
    running(store, "boot-before", runtime="container")
    discarded = []
    assert look(store, discard=discarded.append)[0].state == LOST
    assert discarded == [store.layout]


def test_one_damaged_job_does_not_stop_the_others(store, capfd):
    running(store)
    store.create(JobSpec("job-0", "zero", ("true",)), "boot-now")
    store.transition("job-0", STARTING, boot_id="boot-now", supervisor={"pid": 1})
    assert look(store)[0].state == LOST
    assert "job-0" in capfd.readouterr().err


def test_queued_jobs_wait_through_a_reboot(store):
    running(store, "boot-before", QUEUED)
    assert look(store)[0].state == QUEUED


def test_a_reused_process_number_is_another_process():
    me = identify(1)
    assert me is not None
    assert is_alive(me)
    assert not is_alive(Identity(1, me.start_ticks + 1))
