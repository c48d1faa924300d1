"""What breaks while a job runs, as a table: after each fault the log is exact to the byte, the
verdict is right, no process of the job is left, and its GPUs are free.

A host's clock is the machine's own here, so that setting it back is not among the rows; a full
disk and a silent Docker have files of their own.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab_program import LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

HOSTS = ("lab01", "lab02")
"""Debian 12 and 13."""
SERIAL = itertools.count(1)
JOBS = "/home/lab/.rigup/jobs"

PROGRAM = """\
import os, subprocess, sys, time
mark, lines = sys.argv[1], int(sys.argv[2])
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.Popen(["/usr/bin/env", "-i", "/usr/bin/setsid", "/bin/sleep", mark + ".1"], **quiet)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        os.execve("/bin/sleep", ["sleep", mark + ".2"], {})
    os._exit(0)
for number in range(lines):
    sys.stdout.buffer.write(b"%d \\xff\\r\\n" % number)
    sys.stdout.buffer.flush()
    time.sleep(0.05)
"""


def expected_log(lines: int) -> bytes:
    return b"".join(b"%d \xff\r\n" % number for number in range(lines))


@dataclass
class Run:
    """One job on one practice host, and somebody who follows its log all the time."""

    rigup: Rigup
    host: LabHostShell
    job: str
    mark: str
    followed: Path
    follower: subprocess.Popen[bytes] = field(repr=False)

    def details(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.host.run(f"cat {JOBS}/{self.job}/state.json"))
        return loaded

    def kill(self, *roles: str) -> None:
        """SIGKILL, at once, to what the job's record names: ``supervisor``, ``process``."""
        told = self.details()
        self.host.run("kill -9 " + " ".join(str(told[role]["pid"]) for role in roles))

    def kill_agents(self, verb: str) -> None:
        self.host.run(f"pkill -9 -u lab -f '[.]pyz {verb}'")

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rigup.ok("describe", self.job, "--json").json["job"]
        return found

    def log_on_host(self) -> bytes:
        text = self.host.run(f"cat {JOBS}/{self.job}/log")
        return text.encode(errors="surrogateescape")

    def processes(self) -> str:
        return self.host.run(f"ps ax -o pid,args | grep -F 'sleep {self.mark}.'|grep -v grep || :")


Start = Callable[..., Run]


@pytest.fixture
def start(provisioned: Rigup, shell, tmp_path: Path):
    """A job of ``lines`` lines on one GPU of ``host``, once it has written something."""
    (tmp_path / "program.py").write_text(PROGRAM)
    followers = []

    def begin(host: str, lines: int = 100) -> Run:
        mark = f"{7000 + next(SERIAL)}"
        words = ("train", "--script", "program.py", "--host", host, "--runtime", "process")
        arguments = ("--gpus", "1", "--", mark, str(lines))
        job = provisioned.ok(*words, *arguments, cwd=tmp_path).out.strip()
        log = tmp_path / f"{job}.log"
        with log.open("wb") as sink:
            follower = provisioned.start("logs", job, "--follow", stdout=sink)
        followers.append(follower)
        run = Run(provisioned, shell(host), job, mark, log, follower)
        wait_for(lambda: log.stat().st_size and len(run.processes().splitlines()) == 2, "its start")
        return run

    yield begin
    for follower in followers:
        follower.kill()
        follower.wait()


def kill_client(run: Run) -> None:
    run.follower.send_signal(signal.SIGKILL)
    run.follower.wait()
    with run.followed.open("wb") as sink:
        run.follower = run.rigup.start("logs", run.job, "--follow", stdout=sink)


def kill_serve(run: Run) -> None:
    run.kill_agents("serve")


def kill_supervisor(run: Run) -> None:
    run.kill("supervisor")


def kill_program(run: Run) -> None:
    run.kill("process")


def kill_both(run: Run) -> None:
    run.kill("supervisor", "process")


@dataclass(frozen=True)
class Row:
    """``whole``: the program writes all its lines in spite of the fault."""

    name: str
    fault: Callable[[Run], None]
    state: str
    cause: str
    whole: bool = True
    said: str = ""


ROWS = (
    Row("client", kill_client, "succeeded", "success"),
    Row("serve", kill_serve, "succeeded", "success"),
    Row("supervisor", kill_supervisor, "lost", "lost", said="exit code is not known"),
    Row("program", kill_program, "failed", "signal", whole=False),
    Row("supervisor and program", kill_both, "lost", "lost", whole=False),
)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_loses_no_byte_and_leaves_nothing(
    provisioned: Rigup, start: Start, row: Row, host: str
) -> None:
    lines = 60
    run = start(host, lines)
    row.fault(run)
    run.follower.wait(timeout=45)  # it notices by itself, without any other contact
    record = run.record()
    assert (record["state"], record["verdict"]["cause"]) == (row.state, row.cause), record
    assert row.said in record["verdict"]["evidence"]
    assert run.followed.read_bytes() == run.log_on_host()
    if row.whole:
        assert run.log_on_host() == expected_log(lines)
    assert run.processes() == ""
