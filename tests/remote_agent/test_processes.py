"""Processes as /proc tells them, also where it tells little."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys

import pytest

from remote_agent import processes
from remote_agent.layout import Layout
from remote_agent.processes import (
    Identity,
    all_stats,
    find_dispatchers,
    find_supervisor,
    identify,
    job_of,
    members,
)

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
"""One process: a shell's child looks like the shell until it runs its program."""


@pytest.fixture
def hidden(monkeypatch):
    """/proc mounted with hidepid=1: listed, but only one's own may be opened (proc(5))."""
    real = builtins.open

    def guarded(path, *arguments, **others):
        if str(path).startswith("/proc/1/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **others)

    monkeypatch.setattr(builtins, "open", guarded)


def test_hidden_processes_count_as_gone(hidden):
    assert identify(1) is None
    assert job_of(1) is None
    assert os.getpid() in [entry.pid for entry in all_stats()]
    assert members("job-none", {identify(os.getpid())}, spared={os.getpid()}) == []


def test_a_name_with_brackets_is_no_trap(tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    fields = " ".join(str(number) for number in range(1, 50))
    (tmp_path / "7" / "stat").write_text(f"7 (a) R (x) S {fields}\n")
    monkeypatch.setattr(processes, "PROC", str(tmp_path))
    (found,) = all_stats()
    assert (found.pid, found.state, found.parent, found.start_ticks) == (7, "S", 1, 19)


def test_a_reused_number_is_no_longer_a_root():
    """Else another user's session, which got the number of a dead program, would be ended."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        true = identify(child.pid)
        assert members("job-none", {true}, spared=set()) == [child.pid]
        assert members("job-none", {Identity(true.pid, true.start_ticks - 1)}, spared=set()) == []
    finally:
        child.kill()
        child.wait()


def test_a_supervisor_is_found_by_its_command_line():
    assert find_supervisor("job-none") is None
    words = [*SLEEPER, "supervise", "--state-dir", "/x", "--job", "job-seen"]
    child = subprocess.Popen(words)
    try:
        assert find_supervisor("job-seen") == identify(child.pid)
        assert find_supervisor("job-see") is None
    finally:
        child.kill()
        child.wait()


def test_a_dispatcher_is_found_however_its_directory_is_written(tmp_path):
    """An older agent, or the unit that starts at a boot, may have written it another way."""
    place = str(tmp_path)
    for given in (place, place + "/"):
        words = [*SLEEPER, "dispatch", "--state-dir", given]
        child = subprocess.Popen(words)
        try:
            for root in (place + "/", Layout.open(place + "/").root, Layout.open(place).root):
                assert find_dispatchers(root, "/new.pyz") == [identify(child.pid)]
            assert find_dispatchers(place + "x", "/new.pyz") == []
        finally:
            child.kill()
            child.wait()
    assert Layout.open(place + "/").root == place
