"""The control channel, spoken with a process that plays QEMU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from provisioner.errors import LabError
from provisioner.lab.guest.monitor import Monitor

QEMU = r"""
import json, sys
def say(value): print(json.dumps(value), flush=True)
say({"QMP": {"version": {}}})
for line in sys.stdin:
    asked = json.loads(line)
    name = asked["execute"]
    if name == "quit": break
    if name == "stop": say({"event": "STOP"})
    if name == "bad": say({"error": {"class": "CommandNotFound", "desc": "no such command"}})
    else: say({"return": {"echo": asked["arguments"]}})
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", QEMU], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        yield started
        started.kill()


def test_answers_are_told_from_events(process) -> None:
    monitor = Monitor(process)
    assert monitor.command("stop") == {"echo": {}}
    assert monitor.command("set-action", reboot="reset") == {"echo": {"reboot": "reset"}}


def test_a_refusal_and_an_end_are_errors(process) -> None:
    monitor = Monitor(process)
    with pytest.raises(LabError, match="refuses bad: no such command"):
        monitor.command("bad")
    with pytest.raises(LabError, match="QEMU ended"):
        monitor.command("quit")
