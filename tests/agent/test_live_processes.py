"""No process of a job is left, whoever was killed: a real agent where no cgroup helps."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SERIAL = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test here once per interpreter that conftest finds."""
    if "python" in metafunc.fixturenames:
        conftest = metafunc.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))
        found = conftest.pythons()
        names = ["current", "python3.8"][: len(found)]
        metafunc.parametrize("python", found, ids=names)


def running(mark: str) -> list[int]:
    """Processes that were started as ``sleep MARK``."""
    wanted = f"sleep\0{mark}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().endswith(wanted):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def without_scopes(bench, tmp_path):
    """Also on a machine with systemd: it makes no scope here."""
    refusing = tmp_path / "bin" / "systemd-run"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    bench.env["PATH"] = f"{refusing.parent}:{bench.env['PATH']}"


@pytest.fixture
def job(bench, shell, until, without_scopes):
    """A running job with an orphan of no environment, session or parent of its own, whose output
    goes to ``where``; its records."""

    class Started:
        def __init__(self, where: str) -> None:
            self.job_id = f"job-hidden-{next(SERIAL)}"
            self.mark = f"{3000 + next(SERIAL)}.{os.getpid()}"
            self.client = bench.connect()
            hide = f"env -i /usr/bin/setsid /bin/sleep {self.mark} {where} &"
            script = f"sh -c '{hide}'; echo up; exec sleep 1000"
            self.client.submit(shell(self.job_id, script))
            until(lambda: running(self.mark), "the orphan")
            until(lambda: self.client.job(self.job_id).state == "running")

        def kill(self, *roles: str, number: int = signal.SIGKILL) -> None:
            told = json.loads((bench.job_dir(self.job_id) / "state.json").read_text())
            for role in roles:
                os.kill(told[role]["pid"], number)

    return Started


KILLS = [("supervisor",), ("supervisor", "process")]


@pytest.mark.parametrize("roles", KILLS, ids="+".join)
def test_stop_ends_an_orphan_that_writes_the_log(job, roles):
    started = job("")
    started.kill(*roles)
    assert started.client.stop(started.job_id, grace_s=2).is_final
    assert running(started.mark) == []


@pytest.mark.parametrize("roles", KILLS, ids="+".join)
def test_stop_ends_an_orphan_that_the_supervisor_had_seen(job, roles, bench, until):
    started = job(">/dev/null 2>&1")
    seen = bench.job_dir(started.job_id) / "seen.json"
    (pid,) = running(started.mark)
    until(lambda: seen.exists() and f'"pid": {pid},' in seen.read_text(), "a look at the processes")
    started.kill(*roles)
    record = started.client.stop(started.job_id, grace_s=2)
    assert record.is_final
    assert running(started.mark) == []
    assert "no cgroup of its own" in record.verdict.evidence


@pytest.mark.parametrize("roles", KILLS, ids="+".join)
def test_whoever_reads_the_log_notices_that_the_supervisor_was_killed(job, roles):
    """By the very read that waits, without any other contact."""
    started = job("")
    answers = []

    def follow() -> None:
        offset = 0
        while not answers or not answers[-1].is_last:
            answers.append(started.client.read_log(started.job_id, offset, wait_s=60))
            offset = answers[-1].next_offset

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    started.kill(*roles)
    if roles == ("supervisor",):
        (program,) = [pid for pid in running("1000") if marked(pid, started.job_id)]
        os.kill(program, signal.SIGKILL)
    follower.join(30)
    assert not follower.is_alive(), "it still waits"
    assert answers[-1].record.state == "lost"
    assert running(started.mark) == []


def test_what_nobody_saw_is_not_said_to_have_ended_by_itself(job):
    started = job("")
    started.kill("supervisor", "process")
    verdict = started.client.stop(started.job_id, grace_s=2).verdict
    assert "nobody saw when and how" in verdict.evidence


def test_stop_wakes_a_supervisor_that_somebody_has_stopped(job):
    started = job("")
    started.kill("supervisor", number=signal.SIGSTOP)
    assert started.client.stop(started.job_id, grace_s=2).state == "stopped"
    assert running(started.mark) == []


def marked(pid: int, job_id: str) -> bool:
    try:
        return f"RIGUP_JOB_ID={job_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # gone, or another user's
