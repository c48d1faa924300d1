"""What a supervisor knows gets to disk, sooner or later, exactly."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from remote_agent import state_file
from remote_agent.layout import Layout
from remote_agent.protocol.job import FAILED, LOST, RUNNING, STARTING, SUCCEEDED, JobSpec, Verdict
from remote_agent.state_writer import RETRY_WRITE_S, StateWriter
from remote_agent.store import JobStore

SPEC = JobSpec("job-1", "one", ("true",))
DONE = Verdict("success", exit_code=0)


class Disk:
    def __init__(self, monkeypatch):
        self.full = False
        self.writes = 0
        self.now = 0.0
        self.slept = []
        self.room_after = None
        write = state_file.write_json

        def write_or_refuse(path, value):
            self.writes += 1
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, value)

        monkeypatch.setattr(state_file, "write_json", write_or_refuse)

    def sleep(self, seconds):
        self.slept.append(seconds)
        if self.room_after is not None and len(self.slept) >= self.room_after:
            self.full = False


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
def store(tmp_path, disk):
    made = JobStore(Layout.open(str(tmp_path / "state")))
    made.create(SPEC, "boot")
    made.transition("job-1", STARTING, supervisor={"pid": 1, "start_ticks": 2})
    os.unlink(made.layout.job("job-1").reserve)
    return made


@pytest.fixture
def writer(store, disk):
    return StateWriter(store, "job-1", disk.sleep, lambda: disk.now)


def test_a_full_disk_delays_a_note_and_loses_nothing(store, disk, writer):
    disk.full = True
    writer.running(started_at=5.0, pid=7)
    assert store.record("job-1").state == STARTING
    disk.full = False
    writer.keep_up()
    assert store.record("job-1").state == STARTING, "not yet: it tries again after a pause"
    disk.now += RETRY_WRITE_S
    writer.keep_up()
    record = store.record("job-1")
    assert (record.state, record.started_at, record.pid) == (RUNNING, 5.0, 7)


def test_keeping_up_writes_nothing_when_nothing_is_left(disk, writer):
    writer.running(started_at=5.0)
    disk.writes = 0
    for _ in range(10):
        writer.keep_up()
    assert disk.writes == 0


def test_the_end_waits_for_room_and_is_what_happened(store, disk, writer):
    disk.full, disk.room_after = True, 3
    writer.running(started_at=5.0)
    writer.conclude(SUCCEEDED, DONE)
    record = store.record("job-1")
    assert (record.state, record.started_at, record.verdict) == (SUCCEEDED, 5.0, DONE)
    assert len(disk.slept) == 3


def test_it_complains_once(disk, writer, capfd):
    disk.full, disk.room_after = True, 50
    writer.conclude(FAILED, DONE)
    assert capfd.readouterr().err.count("No space left") == 1


def test_a_job_that_somebody_else_ended_stays_as_it_is(store, writer):
    store.transition("job-1", LOST)
    writer.running(started_at=5.0)
    writer.conclude(SUCCEEDED, DONE)
    assert store.record("job-1").state == LOST


def test_a_job_whose_directory_was_deleted_is_given_up(store, disk, writer):
    shutil.rmtree(store.layout.job("job-1").root)
    writer.running(started_at=5.0)
    writer.keep_up()
    writer.conclude(SUCCEEDED, DONE)
    assert disk.slept == []


@pytest.mark.parametrize("name", ["state", "spec"])
@pytest.mark.parametrize("content", ["", "{}", None])
def test_damaged_records_are_written_anew(store, writer, name, content):
    writer.running(started_at=5.0)
    path = getattr(store.layout.job("job-1"), name)
    os.unlink(path)
    if content is not None:
        with open(path, "w") as file:
            file.write(content)
    writer.conclude(SUCCEEDED, DONE)
    record = JobStore(store.layout).record("job-1")
    assert (record.state, record.spec) == (SUCCEEDED, SPEC)
    details = JobStore(store.layout).known_state("job-1")
    assert details["supervisor"] == {"pid": 1, "start_ticks": 2}
    assert details["started_at"] == 5.0
