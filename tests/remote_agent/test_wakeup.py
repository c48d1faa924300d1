"""Waking the dispatcher."""

from __future__ import annotations

import os
import stat

import pytest

from remote_agent.layout import Layout
from remote_agent.wakeup import Wakeup, wake_dispatcher


@pytest.fixture
def layout(tmp_path):
    return Layout.open(str(tmp_path / "state"))


@pytest.fixture
def wakeup(layout):
    made = Wakeup(layout)
    yield made
    made.close()


def test_many_calls_wake_once(layout, wakeup):
    for _ in range(3):
        wake_dispatcher(layout)
    assert wakeup.wait(60.0), "at once, not after a minute"
    assert not wakeup.wait(0.0)


def test_a_call_before_the_wait_is_not_missed(layout, wakeup):
    assert not wakeup.wait(0.0)
    wake_dispatcher(layout)
    assert wakeup.wait(60.0)


def test_more_calls_than_the_fifo_holds_block_nobody(layout, wakeup):
    for _ in range(70000):
        wake_dispatcher(layout)
    assert wakeup.wait(60.0)


def test_without_a_dispatcher_nothing_happens(layout):
    wake_dispatcher(layout)
    assert not os.path.exists(layout.dispatcher_wake)
    Wakeup(layout).close()
    wake_dispatcher(layout)
    assert stat.S_ISFIFO(os.stat(layout.dispatcher_wake).st_mode)


def test_a_file_in_its_place_is_left_alone(layout, capfd):
    with open(layout.dispatcher_wake, "w") as file:
        file.write("mine")
    wakeup = Wakeup(layout)
    wake_dispatcher(layout)
    assert not wakeup.wait(0.0)
    wakeup.close()
    with open(layout.dispatcher_wake) as file:
        assert file.read() == "mine"
    assert "is no FIFO" in capfd.readouterr().err
