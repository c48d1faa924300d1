"""What the receiver of an image says of it."""

from __future__ import annotations

import os

import pytest

from remote_agent.arrival import SILENCE_S, Arrival, read_arrived


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arriving"


@pytest.mark.parametrize("text", ["0", "851443712", "851443712\n"])
def test_the_bytes_that_have_arrived(path, text):
    path.write_text(text)
    assert read_arrived(str(path))[0] == int(text)


@pytest.mark.parametrize("text", ["", "-1", "1e9", "12 MiB", "9" * 19, "7" * 99, "\u0661", "1\0"])
def test_anything_else_is_not_believed(path, text):
    path.write_text(text)
    assert read_arrived(str(path)) is None


def test_only_a_plain_file_is_read(path, tmp_path):
    assert read_arrived(str(path)) is None
    (tmp_path / "elsewhere").write_text("5")
    path.symlink_to(tmp_path / "elsewhere")
    assert read_arrived(str(path)) is None
    path.unlink()
    os.mkfifo(path)
    assert read_arrived(str(path)) is None
    path.unlink()
    path.mkdir()
    assert read_arrived(str(path)) is None


def test_a_sender_that_is_silent_for_long_has_gone(path):
    now = [1000.0]
    arrival = Arrival(str(path), lambda: now[0])
    now[0] += SILENCE_S - 1
    arrival.look()
    assert not arrival.has_ended
    path.write_text("5")
    arrival.look()
    now[0] += SILENCE_S - 1
    arrival.look()
    assert (arrival.arrived, arrival.has_ended) == (5, False)
    os.utime(path, ns=(1, 1))
    arrival.look()
    now[0] += SILENCE_S - 1
    assert not arrival.has_ended, "a file that is only touched tells of its sender too"
    now[0] += 1
    arrival.look()
    assert arrival.has_ended


def test_nonsense_keeps_no_job_waiting(path):
    now = [0.0]
    arrival = Arrival(str(path), lambda: now[0])
    for step in range(4):
        now[0] += SILENCE_S / 3
        path.write_text("x" * step)
        arrival.look()
    assert arrival.has_ended
