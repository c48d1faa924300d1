"""Container jobs on a real Docker engine, in an image made of this machine's own shell."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_agent.protocol.job import CONTAINER, RUNNING, JobSpec

pytestmark = pytest.mark.e2e

IMAGE = "rigup-test/shell:latest"
PROGRAMS = ("sh", "sleep", "env", "id", "cat", "head", "tail")


def libraries(path: Path) -> set[str]:
    listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/[^\s()]+)", listed))


def docker(*words: str, data: bytes | None = None) -> str:
    done = subprocess.run(["docker", *words], input=data, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    paths = {f"bin/{name}": Path("/usr/bin") / name for name in PROGRAMS}
    for path in list(paths.values()):
        paths.update((library.lstrip("/"), Path(library)) for library in libraries(path))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in paths.items():
            tar.add(os.path.realpath(path), name)
    docker("import", "--change", 'ENTRYPOINT ["/bin/false"]', "-", IMAGE, data=buffer.getvalue())
    yield IMAGE
    docker("rmi", "--force", IMAGE)


@pytest.fixture
def contained(image, shell):
    def make(job_id: str, script: str, **others: object) -> JobSpec:
        return shell(job_id, script, runtime=CONTAINER, image=image, **others)

    return make


def containers(job_id: str, *options: str) -> str:
    return docker(
        "ps", *options, "--all", "--quiet", "--filter", f"label=rigup.job={job_id}"
    ).strip()


def runs(job_id: str) -> bool:
    """A container that was only made ends with the client that made it."""
    return bool(containers(job_id, "--filter", "status=running"))


def test_argv_runs_in_place_and_outputs_belong_to_the_user(agent, bench, contained, finished):
    script = 'echo "$PWD|$HOME|$SECRET|$MULTI|$RIGUP_JOB_ID"; echo w > outputs/w; id -u; exit 3'
    env = {"SECRET": "s3 cr=et", "MULTI": "a\nb"}
    agent.submit(contained("job-box", script, env=env))
    record = finished(agent, "job-box")
    root = bench.job_dir("job-box")
    log = agent.read_log("job-box", 0).data.decode()
    assert log == f"{root}/work|{root}/home|s3 cr=et|a\nb|job-box\n{os.geteuid()}\n"
    assert (record.state, record.verdict.cause, record.verdict.exit_code) == (
        "failed",
        "exit-code",
        3,
    )
    assert (root / "outputs/w").stat().st_uid == os.geteuid()
    assert containers("job-box") == ""
    assert not (root / "container.env").exists()


def test_stop_ends_the_container_politely_then_by_force(agent, contained, until):
    polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    agent.submit(contained("job-polite", polite))
    agent.submit(contained("job-stubborn", "trap '' TERM; echo ready; while :; do sleep 1; done"))
    for job_id in ("job-polite", "job-stubborn"):
        until(lambda job_id=job_id: agent.read_log(job_id, 0).data == b"ready\n")
        assert "s3cr" not in docker("inspect", containers(job_id))
    assert agent.stop("job-polite", grace_s=15).state == "stopped"
    assert agent.read_log("job-polite", 0).data.endswith(b"bye\n")
    assert agent.stop("job-stubborn", grace_s=0.5).state == "stopped"
    assert containers("job-polite") + containers("job-stubborn") == ""


def test_what_cannot_start_says_why(agent, contained, shell, finished):
    agent.submit(JobSpec("job-prog", "x", ("no-such",), runtime=CONTAINER, image=IMAGE))
    agent.submit(shell("job-image", "true", runtime=CONTAINER, image="127.0.0.1:1/none:none"))
    program, image = finished(agent, "job-prog").verdict, finished(agent, "job-image").verdict
    assert (program.cause, image.cause) == ("could-not-start", "could-not-start")
    assert "no-such" in program.evidence
    assert "127.0.0.1:1/none" in image.evidence + image.hint
    assert containers("job-prog") + containers("job-image") == ""


def test_absent_docker_is_a_clear_verdict(bench, contained, finished, tmp_path):
    bench.env["PATH"] = str(tmp_path)
    client = bench.connect()
    client.submit(contained("job-nodocker", "true"))
    verdict = finished(client, "job-nodocker").verdict
    assert verdict.cause == "could-not-start"
    assert "Docker is not installed" in verdict.evidence


def test_the_jobs_records_are_out_of_the_programs_reach(agent, bench, contained, finished):
    script = "cd ..; for name in state.json log spec.json; do [ -e $name ] && echo $name; done; :"
    agent.submit(contained("job-reach", script))
    assert finished(agent, "job-reach").state == "succeeded"
    assert agent.read_log("job-reach", 0).data == b""


def clients(bench, job_id: str) -> dict[str, int]:
    told = json.loads((bench.job_dir(job_id) / "state.json").read_text())
    return {role: told[role]["pid"] for role in ("supervisor", "process")}


WAITING = "while [ ! -e outputs/go ]; do sleep 0.05; done; echo done; exit 7"
TICKING = WAITING.replace("do", "do echo tick;", 1)


@pytest.mark.parametrize("killed", [("process",), ("supervisor", "process")])
def test_a_container_outlives_its_client(agent, bench, contained, until, killed):
    agent.submit(contained("job-client", TICKING))
    until(lambda: agent.job("job-client").state == RUNNING)
    until(lambda: runs("job-client"))
    first = clients(bench, "job-client")
    for role in killed:
        os.kill(first[role], signal.SIGKILL)
    until(lambda: agent.jobs() and clients(bench, "job-client")["process"] != first["process"])
    until(lambda: b"tick" in agent.read_log("job-client", 0).data.partition(b"may be missing")[2])
    (bench.job_dir("job-client") / "outputs/go").touch()
    until(lambda: agent.job("job-client").is_final)
    record = agent.job("job-client")
    assert (record.state, record.verdict.exit_code) == ("failed", 7)
    log = agent.read_log("job-client", 0).data
    assert b"may be missing" in log
    assert log.endswith(b"done\n")
    assert containers("job-client") == ""


def test_a_killed_supervisor_does_not_end_the_container(agent, bench, contained, until):
    agent.submit(contained("job-orphan", WAITING))
    until(lambda: agent.job("job-orphan").state == RUNNING)
    until(lambda: runs("job-orphan"))
    state = bench.job_dir("job-orphan") / "state.json"
    first = json.loads(state.read_text())["supervisor"]["pid"]
    os.kill(first, signal.SIGKILL)
    until(lambda: agent.jobs() and json.loads(state.read_text())["supervisor"]["pid"] != first)
    (bench.job_dir("job-orphan") / "outputs/go").touch()
    until(lambda: agent.job("job-orphan").is_final)
    record = agent.job("job-orphan")
    assert (record.state, record.verdict.exit_code) == ("failed", 7), "Docker knew the code"
    assert agent.read_log("job-orphan", 0).data == b"done\n"
