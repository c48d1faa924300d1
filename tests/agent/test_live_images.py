"""The image of a queued job, through a real agent. Docker's client is a shell script."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from remote_agent.processes import Identity, identify, is_alive
from remote_agent.protocol.job import CONTAINER, PROCESS, QUEUED, ImagePlan, JobSpec

CLIENT = """#!/bin/sh
cd {directory} || exit 99
echo "$*" >>calls
case "$1 $2" in
"version "*) echo 28.2 ;;
"image inspect")
  [ -e there ] || {{ echo "Error: No such image: $5" >&2; exit 1; }}
  echo sha256:1 ;;
"container "*) echo "Error: No such container: $5" >&2; exit 1 ;;
"pull "*)
  echo $$ >>pullers
  echo "4f4fb700ef54: Already exists"
  echo "d1a5a1e51f25: Pulling fs layer"
  while [ ! -e go ]; do sleep 0.05; done
  touch there ;;
*) exit 1 ;;
esac
"""
PULLED = ImagePlan(pull="x:1")


class FakeClient:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bin").mkdir(parents=True)
        program = directory / "bin" / "docker"
        program.write_text(CLIENT.format(directory=directory))
        program.chmod(0o755)

    def calls(self, verb: str) -> list[str]:
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(verb)]

    def pullers(self) -> list[Identity]:
        path = self.directory / "pullers"
        found = path.read_text().split() if path.exists() else []
        return [one for one in (identify(int(pid)) for pid in found) if one and is_alive(one)]

    def go(self) -> None:
        (self.directory / "go").touch()


@pytest.fixture
def client(bench, tmp_path):
    made = FakeClient(tmp_path / "docker")
    bench.env["PATH"] = f"{made.directory}/bin:{os.environ['PATH']}"
    return made


def spec(job_id: str, plan: ImagePlan = PULLED, **others: object) -> JobSpec:
    return JobSpec(
        job_id, job_id, ("true",), runtime=CONTAINER, image="x:1", image_plan=plan, **others
    )


def preparers(bench, job_id: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            b"prepare" in words
            and job_id.encode() in words
            and str(bench.archive).encode() in words
        ):
            found.append(int(entry.name))
    return found


def test_a_job_waits_for_its_image_tells_how_far_it_is_and_then_starts(
    client, bench, agent, until, finished
):
    agent.submit(spec("job-a"))
    said = "pulling 1 of 2 layers of x:1"
    until(lambda: agent.job("job-a").waiting_for == said)
    assert agent.job("job-a").state == QUEUED
    agent.submit(JobSpec("job-b", "b", ("true",), runtime=PROCESS))
    assert finished(agent, "job-b").state == "succeeded"
    client.go()
    record = finished(agent, "job-a")
    assert record.state == "failed", "this client can run no container"
    assert client.calls("run")
    assert client.calls("pull") == ["pull x:1"]
    state = json.loads((bench.job_dir("job-a") / "state.json").read_text())
    assert state["image_ready"] is True


def test_a_stop_ends_the_pull(client, agent, until):
    agent.submit(spec("job-a"))
    until(client.pullers)
    assert agent.stop("job-a").state == "stopped"
    until(lambda: not client.pullers(), "the client of Docker has ended")


def test_a_killed_preparation_takes_its_client_along_and_is_started_again(
    client, bench, agent, until
):
    agent.submit(spec("job-a"))
    until(client.pullers)
    for pid in preparers(bench, "job-a"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(client.calls("pull")) == 2, "a second attempt")
    until(lambda: len(client.pullers()) == 1, "only the second client runs")
    assert len(preparers(bench, "job-a")) == 1
    client.go()
    until(lambda: agent.job("job-a").state != QUEUED)


def test_an_image_that_arrives(client, bench, agent, until):
    agent.submit(spec("job-a", ImagePlan(sender="ann@laptop", size=1830 << 20)))
    until(lambda: agent.job("job-a").waiting_for == "receiving x:1 from ann@laptop")
    (bench.job_dir("job-a") / "arriving").write_text(str(812 << 20))
    said = "receiving 812 of about 1,830 MiB of x:1 from ann@laptop"
    until(lambda: agent.job("job-a").waiting_for == said)
    (client.directory / "there").touch()
    until(lambda: agent.job("job-a").state != QUEUED)
    assert client.calls("pull") == []
