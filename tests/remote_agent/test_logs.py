"""Reading logs by offset, without real waiting."""

from __future__ import annotations

import pytest

from remote_agent.faults import AgentFault
from remote_agent.layout import Layout
from remote_agent.logs import QUICK_S, SLOW_S, read_log
from remote_agent.protocol.job import LOST, RUNNING, STARTING, STOPPED, JobSpec, Verdict
from remote_agent.store import JobStore


@pytest.fixture
def store(tmp_path):
    store = JobStore(Layout.open(str(tmp_path / "state")))
    store.create(JobSpec("job-1", "one", ("true",)), "boot")
    return store


def append(store, data):
    with open(store.layout.job("job-1").log, "ab") as log:
        log.write(data)


def drive(steps, clock, between=lambda wait: None):
    """Run steps to their end on a clock that moves only by what they ask to wait."""
    while True:
        try:
            wait = next(steps)
        except StopIteration as end:
            return end.value
        clock[0] += wait.seconds
        between(wait)


def test_answers_at_once_when_there_are_bytes(store):
    append(store, b"\xff\r\n\x00")
    told, data = drive(read_log(store, "job-1", 1, 2, 99.0), [0.0])
    assert (told["offset"], told["size"], data) == (1, 4, b"\r\n")


def test_waits_until_the_time_is_over(store):
    clock = [0.0]
    told, data = drive(read_log(store, "job-1", 0, 10, 7.5, lambda: clock[0]), clock)
    assert (data, told["size"]) == (b"", 0)
    assert clock[0] == pytest.approx(7.5)


def test_a_quiet_log_is_looked_at_less_often(store):
    clock, waits = [0.0], []
    drive(read_log(store, "job-1", 0, 10, 60.0, lambda: clock[0]), clock, waits.append)
    assert waits[0].seconds == QUICK_S
    assert waits[-2].seconds == SLOW_S


def test_wakes_for_bytes_and_for_the_end(store):
    clock = [0.0]
    steps = read_log(store, "job-1", 0, 10, 60.0, lambda: clock[0])
    assert drive(steps, clock, lambda wait: append(store, b"x"))[1].startswith(b"x")
    steps = read_log(store, "job-1", 1, 10, 60.0, lambda: clock[0])
    told, data = drive(steps, clock, lambda wait: store.transition("job-1", STOPPED))
    assert (told["record"]["state"], data) == (STOPPED, b"")


def test_an_offset_from_the_end_stays_where_it_was_asked(store):
    append(store, b"old")
    clock = [0.0]
    steps = read_log(store, "job-1", -10, 10, 60.0, lambda: clock[0])
    assert drive(steps, clock)[1] == b"old"


@pytest.mark.parametrize("limit", [0, -1])
def test_bad_limits(store, limit):
    with pytest.raises(AgentFault):
        next(read_log(store, "job-1", 0, limit, 0.0))


def test_whoever_waits_has_the_job_looked_after(store):
    """A job whose supervisor was killed becomes final only because somebody looks."""
    store.transition("job-1", STARTING)
    store.transition("job-1", RUNNING)
    clock, looks = [0.0], []

    def look():
        looks.append(clock[0])
        if len(looks) == 3:
            store.transition("job-1", LOST, verdict=Verdict("lost", evidence="gone").to_json())

    told, _ = drive(read_log(store, "job-1", 0, 10, 60.0, lambda: clock[0], look), clock)
    assert told["record"]["state"] == LOST
    assert len(looks) == 3


def test_a_reader_beyond_the_end_of_a_log_is_told_at_once(store):
    append(store, b"new\n")
    clock = [0.0]
    told, data = drive(read_log(store, "job-1", 100, 10, 60.0, lambda: clock[0]), clock)
    assert (told["offset"], told["size"], data, clock[0]) == (100, 4, b"", 0.0)
