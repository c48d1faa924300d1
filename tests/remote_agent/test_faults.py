"""Complaining to people must not do harm."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMPLAIN = f"""
import sys
sys.path.insert(0, {os.getcwd()!r})
from remote_agent.faults import complain, complain_of_exception
complain("text \\udc80 that no codec likes")
try:
    raise ValueError("inner")
except ValueError:
    complain_of_exception()
print("went on")
"""


def complain_on(fd):
    return subprocess.run([sys.executable, "-c", COMPLAIN], stdout=subprocess.PIPE, stderr=fd)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_no_error():
    with open("/dev/full", "wb") as full:
        done = complain_on(full)
    assert (done.returncode, done.stdout) == (0, b"went on\n")


def test_a_closed_pipe_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = complain_on(writing)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"went on\n")


def test_what_can_be_written_is_whole_lines():
    done = complain_on(subprocess.PIPE)
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "text \\udc80 that no codec likes"
    assert lines[-1] == "ValueError: inner"
