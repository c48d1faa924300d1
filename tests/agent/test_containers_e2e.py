"""Container jobs on a real Docker engine, in an image made of this machine's own shell."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from static_registry import StaticRegistry, serving

from remote_agent.protocol.job import CONTAINER, ImagePlan, JobSpec

pytestmark = pytest.mark.e2e

IMAGE = "rigup-test/shell:latest"
PROGRAMS = ("sh", "sleep", "env", "id", "cat", "head", "tail")


def libraries(path: Path) -> set[str]:
    listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/[^\s()]+)", listed))


def docker(*words: str, data: bytes | None = None) -> str:
    done = subprocess.run(["docker", *words], input=data, capture_output=True, check=True)
    return done.stdout.decode()


def build(image: str, programs: Iterable[str]) -> None:
    paths = {f"bin/{name}": Path("/usr/bin") / name for name in programs}
    for path in list(paths.values()):
        paths.update((library.lstrip("/"), Path(library)) for library in libraries(path))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, path in paths.items():
            tar.add(os.path.realpath(path), name)
    docker("import", "--change", 'ENTRYPOINT ["/bin/false"]', "-", image, data=buffer.getvalue())


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    build(IMAGE, PROGRAMS)
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


def identities(bench, job_id: str) -> dict[str, int]:
    told = json.loads((bench.job_dir(job_id) / "state.json").read_text())
    return {role: told[role]["pid"] for role in ("supervisor", "process")}


def docker_clients(job_id: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"^docker (run|attach) .*{job_id}"], capture_output=True)
    return [int(word) for word in found.stdout.split()]


COUNTING = """
n=0
while [ ! -e outputs/go ]; do
  n=$((n + 1)); printf "%d \\377\\r" $n; [ $((n % 9)) = 0 ] && echo
done
echo "end $n" >&2
exit 7
"""


def counted(log: bytes) -> bytes:
    """What COUNTING must have written, from the number in its last line."""
    last = int(log.rpartition(b"end ")[2])
    numbers = range(1, last + 1)
    lines = (b"%d \xff\r%s" % (n, b"\n" if n % 9 == 0 else b"") for n in numbers)
    return b"".join(lines) + b"end %d\n" % last


def kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("killed", ["client", "supervisor", "both"])
def test_no_byte_of_the_log_depends_on_client_or_supervisor(agent, bench, contained, until, killed):
    agent.submit(contained("job-client", COUNTING))
    until(lambda: agent.read_log("job-client", 0).size > 1000)
    first = identities(bench, "job-client")["supervisor"]
    kill([first] if killed != "client" else [])
    kill(docker_clients("job-client") if killed != "supervisor" else [])
    if killed != "client":
        until(lambda: agent.jobs() and identities(bench, "job-client")["supervisor"] != first)
    size = agent.read_log("job-client", 0).size
    until(lambda: agent.read_log("job-client", 0).size > size + 1000)
    (bench.job_dir("job-client") / "outputs/go").touch()
    until(lambda: agent.job("job-client").is_final)
    record = agent.job("job-client")
    assert (record.state, record.verdict.exit_code) == ("failed", 7), "Docker knew the code"
    log = (bench.job_dir("job-client") / "log").read_bytes()
    assert log == counted(log)
    assert containers("job-client") == ""


def test_the_record_names_the_containers_own_process(agent, bench, contained, until):
    agent.submit(contained("job-pid", COUNTING))
    until(lambda: runs("job-pid"))
    pid = docker("inspect", "-f", "{{.State.Pid}}", containers("job-pid")).strip()
    until(lambda: str(identities(bench, "job-pid")["process"]) == pid)


def test_stop_works_without_docker(agent, bench, contained, until, tmp_path):
    """The supervisor finds a docker that does not answer; the container is removed later."""
    away = tmp_path / "away"
    fake = tmp_path / "docker"
    fake.write_text(
        f'#!/bin/sh\n[ -e {away} ] || exec {shutil.which("docker")} "$@"\n'
        "echo Cannot connect to the Docker daemon >&2; exit 1\n"
    )
    fake.chmod(0o755)
    bench.env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    client = bench.connect()
    client.submit(contained("job-away", COUNTING))
    until(lambda: client.read_log("job-away", 0).size > 1000)
    away.touch()
    kill(docker_clients("job-away"))
    record = client.stop("job-away", grace_s=0.2)
    assert (record.state, record.verdict.cause) == ("stopped", "stopped-by-user")
    assert not runs("job-away")
    assert containers("job-away")
    away.unlink()
    until(lambda: containers("job-away") == "")
    until(lambda: not (bench.job_dir("job-away") / "container.env").exists())


NO_SHELL = "rigup-test/no-shell:latest"


def test_an_image_without_a_shell_runs_all_the_same(agent, bench, image, shell, finished):
    """Its output comes through the client."""
    build(NO_SHELL, [name for name in PROGRAMS if name != "sh"])
    try:
        spec = shell("job-noshell", "x", runtime=CONTAINER, image=NO_SHELL)
        agent.submit(replace(spec, argv=("head", "-c", "5000000", "/dev/zero")))
        record = finished(agent, "job-noshell")
        assert record.state == "succeeded", record.verdict
        assert (bench.job_dir("job-noshell") / "log").read_bytes() == bytes(5_000_000)
        agent.submit(JobSpec("job-nothing", "x", ("no-such",), runtime=CONTAINER, image=NO_SHELL))
        assert "no-such" in finished(agent, "job-nothing").verdict.evidence
    finally:
        docker("rmi", "--force", NO_SHELL)


def test_removed_by_hand_is_not_a_wrong_image(agent, contained, until):
    agent.submit(contained("job-removed", COUNTING))
    until(lambda: agent.read_log("job-removed", 0).size > 100)
    docker("rm", "-f", containers("job-removed"))
    until(lambda: agent.job("job-removed").is_final)
    verdict = agent.job("job-removed").verdict
    assert "removed from outside (docker rm -f)" in verdict.evidence
    assert "image" not in verdict.hint


DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG NOTE
RUN echo "built with $NOTE" >/built
"""
BUILT, SENT = "rigup-test/built:1", "rigup-test/sent:1"


@pytest.fixture
def no_images() -> Iterator[None]:
    yield
    for image in (BUILT, SENT):
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


def context(dockerfile: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    return buffer.getvalue()


def built_on(agent, base: str, dockerfile: str = DOCKERFILE, **others: object) -> ImagePlan:
    data = context(dockerfile)
    digest = hashlib.sha256(data).hexdigest()
    agent.put_blob(digest, data)
    arguments = {"BASE_IMAGE": base, "NOTE": "s3cret words"}
    return ImagePlan(base=base, build=digest, build_args=arguments, **others)


def test_the_host_builds_the_image_of_a_queued_job(agent, contained, finished, no_images):
    plan = built_on(agent, IMAGE)
    agent.submit(replace(contained("job-built", "cat /built"), image=BUILT, image_plan=plan))
    assert finished(agent, "job-built").state == "succeeded"
    assert agent.read_log("job-built", 0).data == b"built with s3cret words\n"
    agent.submit(replace(contained("job-again", "cat /built"), image=BUILT, image_plan=plan))
    assert finished(agent, "job-again").state == "succeeded"


def test_a_build_that_fails_says_why(agent, contained, finished, no_images):
    dockerfile = DOCKERFILE + "RUN echo no room for wheels && exit 7\n"
    plan = built_on(agent, IMAGE, dockerfile)
    agent.submit(replace(contained("job-broken", "true"), image=BUILT, image_plan=plan))
    verdict = finished(agent, "job-broken").verdict
    assert verdict.cause == "could-not-start"
    assert f"{BUILT} cannot be built" in verdict.evidence
    assert "7" in verdict.evidence
    assert verdict.hint


def test_an_image_arrives_while_its_job_waits(
    agent, bench, contained, finished, until, no_images, tmp_path
):
    docker("tag", IMAGE, SENT)
    docker("save", "--output", str(tmp_path / "image.tar"), SENT)
    docker("rmi", SENT)
    size = (tmp_path / "image.tar").stat().st_size
    plan = ImagePlan(sender="ann@laptop", size=size)
    agent.submit(replace(contained("job-sent", "echo here"), image=SENT, image_plan=plan))
    until(lambda: agent.job("job-sent").waiting_for == f"receiving {SENT} from ann@laptop")
    (bench.job_dir("job-sent") / "arriving").write_text(str(size))
    until(lambda: " MiB" in agent.job("job-sent").waiting_for)
    docker("load", "--input", str(tmp_path / "image.tar"))
    assert finished(agent, "job-sent").state == "succeeded"
    assert agent.read_log("job-sent", 0).data == b"here\n"


def test_a_stop_ends_a_build(agent, contained, until, no_images):
    plan = built_on(agent, IMAGE, DOCKERFILE + "RUN sleep 600\n")
    agent.submit(replace(contained("job-slow", "true"), image=BUILT, image_plan=plan))
    until(lambda: "step 5 of 5" in agent.job("job-slow").waiting_for)
    assert agent.stop("job-slow").state == "stopped"
    until(lambda: "sleep 600" not in docker("ps", "--no-trunc"), "its container has ended")


def test_the_host_pulls_under_another_name(agent, finished, no_images):
    """The image holds one file that is no program."""
    with serving(StaticRegistry("amd64")) as registry:
        source = registry.reference()
        plan = ImagePlan(pull=source, base=SENT)
        job = JobSpec("job-pull", "x", ("no-such",), runtime=CONTAINER, image=SENT, image_plan=plan)
        agent.submit(job)
        verdict = finished(agent, "job-pull").verdict
        docker("rmi", source)
    assert "no-such" in verdict.evidence
    assert docker("image", "inspect", "--format", "{{.Architecture}}", SENT) == "amd64\n"
