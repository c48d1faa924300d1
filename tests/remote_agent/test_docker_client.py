"""Docker's client is followed line by line and ended with all that it started. The client is a
shell script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote_agent.docker_client import CANNOT_RUN, KEPT_LINES, NO_PROGRAM, TOO_LATE, run_docker
from remote_agent.processes import identify, is_alive

ROOT = Path(__file__).resolve().parent.parent.parent


class StopIt(Exception):
    pass


@pytest.fixture
def client(tmp_path, monkeypatch):
    def write(script):
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return write


def wait_for_end_of(process):
    """A killed process needs a moment to end."""
    deadline = time.monotonic() + 60
    while process is not None and is_alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def call(*words, timeout_s=30.0, look=lambda: None, **others):
    seen = []
    return run_docker(words, timeout_s, look, seen.append, **others), seen


def test_every_line_of_both_outputs_is_told(client):
    client('echo "$1 $2"; echo oops >&2; printf "no end"; exit 3')
    answer, seen = call("pull", "x")
    assert (answer.code, answer.lines) == (3, ("pull x", "oops", "no end"))
    assert seen == ["pull x", "oops"]


def test_a_client_that_cannot_be_started_is_an_answer(client):
    client("exit 0")
    answer, _ = call("build", env={"NOTE": "n" * 200_000})
    assert answer.code == CANNOT_RUN
    assert "too long" in answer.lines[0]


def test_only_the_last_lines_are_kept(client):
    client("i=0; while [ $i -lt 500 ]; do echo $i; i=$((i + 1)); done")
    answer, seen = call("build")
    assert len(seen) == 500
    assert len(answer.lines) == KEPT_LINES
    assert answer.lines[-2:] == ("499", "")


def test_a_line_without_end_is_cut(client):
    client("head -c 3000000 /dev/zero | tr '\\0' x")
    answer, seen = call("build")
    assert (answer.code, seen) == (0, [])
    assert len(answer.lines[-1]) == 1000


def test_input_and_environment_reach_it(client, tmp_path):
    client('cat; echo "$SECRET"')
    (tmp_path / "context").write_text("the context\n")
    with open(tmp_path / "context", "rb") as file:
        answer, _ = call("build", stdin=file.fileno(), env={"SECRET": "s3cret"})
    assert answer.lines[:2] == ("the context", "s3cret")


def test_a_host_without_docker(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("pull")[0].code == NO_PROGRAM


def test_a_stop_ends_the_whole_group_soon_also_what_ignores_the_request(client, tmp_path):
    (tmp_path / "child").write_text("")
    client(
        f"sh -c 'trap \"\" TERM; echo $$ >{tmp_path}/child; while :; do sleep 0.1; done' &\n"
        "trap '' TERM; echo started; while :; do sleep 0.1; done"
    )
    looks = []

    def look():
        looks.append(1)
        if (tmp_path / "child").read_text().strip():
            raise StopIt

    began = time.monotonic()
    with pytest.raises(StopIt):
        call("pull", look=look)
    assert time.monotonic() - began < 20
    wait_for_end_of(identify(int((tmp_path / "child").read_text())))


def test_one_that_takes_too_long_is_ended(client):
    client("echo begun; exec sleep 1000")
    answer, _ = call("pull", timeout_s=0.5)
    assert answer.code == TOO_LATE
    assert answer.lines == ("begun", "docker pull did not end within 0.5 s")


def test_what_it_leaves_behind_with_its_output_open_is_not_waited_for(client, tmp_path):
    client(f"sleep 1000 & echo $! >{tmp_path}/left; echo done")
    answer, _ = call("pull")
    assert answer.lines[0] == "done"
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


def test_one_that_closes_its_output_is_waited_for(client):
    client("exec >&- 2>&-; sleep 0.3; exit 5")
    assert call("pull")[0].code == 5


def test_it_ends_with_the_process_that_called_it(client, tmp_path):
    client(f"echo $$ >{tmp_path}/client; exec sleep 1000")
    code = (
        "from remote_agent.docker_client import run_docker\n"
        "run_docker(('pull', 'x'), 1000.0, lambda: None, lambda line: None)"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (tmp_path / "client").exists() or not (tmp_path / "client").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process = identify(int((tmp_path / "client").read_text()))
    caller.kill()
    caller.wait()
    wait_for_end_of(process)
