"""The disk of a host's state directory fills up while jobs run, on a practice host."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_program import LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

HOST = "lab01"
STATE = "/home/lab/.rigup"
FILL = f"dd if=/dev/zero of={STATE}/filler bs=4096 2>/dev/null; echo -n x >>{STATE}/filler || :"
SERIAL = itertools.count(1)
FOLLOW_LIMIT_S = 60.0


@pytest.fixture
def host(rigup: Rigup, shell: Callable[[str], LabHostShell]) -> Iterator[LabHostShell]:
    """Its state directory is a small disk of its own; the agent is sent there by itself."""
    found = shell(HOST)
    found.run(f"install -d -m 700 -o lab -g lab {STATE}")
    mine = "mode=700,uid=$(id -u lab),gid=$(id -g lab)"
    found.run(f"mount -t tmpfs -o size=24m,{mine} tmpfs {STATE}")
    yield found
    found.run(f"rm -f {STATE}/filler", check=False)
    for job in rigup("jobs", "--host", HOST, "--json").json[0]["result"] or ():
        rigup("stop", job["spec"]["job_id"], "--grace", "0")
    found.run(f"umount --lazy {STATE}")


@pytest.fixture
def train(rigup: Rigup, host: LabHostShell, tmp_path: Path) -> Callable[[str], str]:
    """Start a script that first waits for a file; the job's id."""

    def begin(script: str) -> str:
        code = tmp_path / f"code-{next(SERIAL)}"
        code.mkdir()
        waiting = (
            "import os, sys, time\nwhile not os.path.exists('/tmp/go'):\n    time.sleep(0.05)\n"
        )
        (code / "script.py").write_text(waiting + script)
        words = ("train", "--script", "script.py", "--host", HOST, "--gpus", "0")
        job = rigup.ok(*words, "--runtime", "process", cwd=code).out.strip()
        wait_for(lambda: rigup.ok("describe", job, "--json").json["job"]["state"] == "running", job)
        return job

    host.run("rm -f /tmp/go")
    return begin


@pytest.mark.parametrize(
    ("script", "state", "cause", "said"),
    [
        ("sys.exit(3)", "failed", "disk-full", "No space left"),
        ("print('x' * 9000000)", "failed", "disk-full", "No space left"),
        ("", "succeeded", "success", "may be incomplete"),
    ],
)
def test_a_follower_is_told_at_once_how_a_job_ended_on_a_full_disk(
    rigup: Rigup,
    host: LabHostShell,
    train: Callable[[str], str],
    script: str,
    state: str,
    cause: str,
    said: str,
) -> None:
    job = train(script)
    host.run(FILL)
    follower = rigup.start("logs", job, "--follow")
    host.run("touch /tmp/go")
    code = follower.wait(FOLLOW_LIMIT_S)
    assert (code == 0) == (state == "succeeded")
    record = rigup.ok("describe", job, "--json").json["job"]
    assert (record["state"], record["verdict"]["cause"]) == (state, cause)
    assert said in record["verdict"]["evidence"]


def test_stop_works_and_new_jobs_are_refused_on_a_full_disk(
    rigup: Rigup, host: LabHostShell, train: Callable[[str], str], tmp_path: Path
) -> None:
    job = train("")
    host.run(FILL)
    (tmp_path / "new.py").write_text("print('new')")
    words = ("--host", HOST, "--gpus", "0", "--runtime", "process")
    refused = rigup("train", "--script", "new.py", *words, cwd=tmp_path)
    assert refused.code == 1
    assert "No space left" in refused.said
    assert "df -h" in refused.said
    began = time.monotonic()
    stopped = rigup("stop", job, "--grace", "2")
    assert (stopped.code, stopped.out) == (0, f"{job}: stopped\n")
    assert time.monotonic() - began < FOLLOW_LIMIT_S
    assert job not in host.run("ps ax -o args", check=False)


def test_a_damaged_record_is_shown_and_its_job_can_be_stopped(
    rigup: Rigup, host: LabHostShell, train: Callable[[str], str]
) -> None:
    job = train("")
    host.run(f"pkill -9 -u lab -f 'supervise.*{job}' && : >{STATE}/jobs/{job}/state.json")
    listed = rigup("jobs", "--host", HOST)
    assert listed.code == 1
    assert "damaged" in listed.out
    assert f"stop {job}" in listed.err
    stopped = rigup("stop", job, "--grace", "2")
    assert (stopped.code, stopped.out) == (0, f"{job}: stopped\n")
    assert rigup("jobs", "--host", HOST).code == 0
