"""Cooperative tasks."""

from __future__ import annotations

import pytest

from remote_agent.tasks import Tasks, Wait


class Loop:
    def __init__(self):
        self.now = 0.0
        self.replies, self.failures = [], []
        self.tasks = Tasks(
            self.replies.append, lambda *told: self.failures.append(told), lambda: self.now
        )


@pytest.fixture
def loop():
    return Loop()


def sleeper(seconds, fd=None):
    yield Wait(seconds, fd)
    return {"slept": seconds}, b""


def test_quick_work_is_over_at_once(loop):
    def quick():
        return {}, b"x"
        yield

    loop.tasks.add(1, quick())
    assert loop.replies[0].payload == b"x"
    assert loop.tasks.timeout() is None


def test_the_earliest_is_waited_for(loop):
    loop.tasks.add(1, sleeper(5.0))
    loop.tasks.add(2, sleeper(1.0))
    assert loop.tasks.timeout() == 1.0
    loop.now = 1.0
    loop.tasks.run_due([])
    assert [reply.id for reply in loop.replies] == [2]


def test_a_readable_descriptor_wakes(loop):
    loop.tasks.add(1, sleeper(99.0, fd=7))
    assert list(loop.tasks.fds()) == [7]
    loop.tasks.run_due([8])
    assert not loop.replies
    loop.tasks.run_due([7])
    assert loop.replies


def test_one_failure_does_not_touch_the_others(loop):
    def broken():
        yield Wait(0.0)
        raise OSError("disk")

    loop.tasks.add(1, broken())
    loop.tasks.add(2, sleeper(0.0))
    loop.tasks.run_due([])
    assert loop.failures[0][0] == 1
    assert loop.replies[0].id == 2


def test_cancelling_runs_the_clean_up(loop):
    closed = []

    def watch():
        try:
            while True:
                yield Wait(1.0)
        finally:
            closed.append(True)

    loop.tasks.add(1, watch())
    loop.tasks.cancel(1)
    loop.tasks.cancel(1)
    assert closed == [True]
    assert loop.tasks.timeout() is None
