"""What breaks while a container job runs on a practice host with a Docker engine of its own: the
log stays exact to the byte, the program lives as long as its container, `stop` stops, the verdict
is right, and no container is left."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab_program import Done, LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

OLD, NEW = "lab01", "lab02"
"""Debian 12 with Docker 20.10, and Debian 13 with Docker 26.1."""
BOTH = pytest.mark.parametrize("host", [OLD, NEW])
JOBS = "/home/lab/.rigup/jobs"
SMALL_IMAGE = Path(__file__).parents[1] / "support" / "small_image.sh"
WITH_SHELL, NO_SHELL = "rigup-test/python", "rigup-test/no-shell"
AWAY_S = 125
"""Longer than the two minutes after which a job was once given up."""
STOP_DOCKER = "systemctl stop docker.socket docker.service"
START_DOCKER = "systemctl start docker.socket docker.service"

PIECE = """\
def piece(number):
    if number % 40 == 20:
        return b"x" * 20_000
    return b"%d \\xff\\r" % number + (b"\\n" if number % 3 else b"")
"""
PROGRAM = (
    PIECE
    + """
import itertools, os, signal, sys, time
def leave(*_):
    os.write(1, b"told to end")
    sys.exit(int(sys.argv[2]))
if sys.argv[2] != "-":
    signal.signal(signal.SIGTERM, leave)
for number in itertools.count():
    os.write(1 + number % 2, piece(number))
    if os.path.exists(os.path.join(os.environ["RIGUP_OUTPUT_DIR"], "go")):
        os.write(1, b"end %d" % number)
        sys.exit(int(sys.argv[1]))
    time.sleep(0.005)
"""
)


GREEDY = """\
import time
print("up", flush=True)
time.sleep(3)
held = b"1" * (1 << 29)
"""


def exact_log(log: bytes) -> bytes:
    """What the program must have written, from the number in its last words."""
    found: dict[str, Any] = {}
    exec(PIECE, found)
    last = int(log.rpartition(b"end ")[2])
    return b"".join(map(found["piece"], range(last + 1))) + b"end %d" % last


@dataclass
class Run:
    rigup: Rigup = field(repr=False)
    host: LabHostShell
    job: str

    def read(self, name: str) -> bytes:
        told = self.host.run(f"cat {JOBS}/{self.job}/{name}")
        return told.encode(errors="surrogateescape")

    def details(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.read("state.json"))
        return loaded

    def ended(self) -> bool:
        """By the host's disk alone: no agent is started for it."""
        return self.details()["state"] not in ("queued", "starting", "running")

    def finish(self) -> dict[str, Any]:
        self.host.run(f"touch {JOBS}/{self.job}/outputs/go")
        return self.record()

    def record(self) -> dict[str, Any]:
        self.rigup("logs", self.job, "--follow", timeout=60)
        found: dict[str, Any] = self.rigup.ok("describe", self.job, "--json").json["job"]
        return found

    def containers(self) -> str:
        return self.host.run(f"docker ps -aq --filter label=rigup.job={self.job}").strip()

    def program(self) -> str:
        """Its processes in the container, by their mark."""
        return self.host.run(f"grep -l RIGUP_JOB_ID={self.job} /proc/*/environ || :").strip()

    def kill(self, pattern: str) -> None:
        self.host.run(f"pkill -9 -f '{pattern}.*{self.job}'")

    def stop(self, *words: str) -> Done:
        return self.rigup("stop", self.job, *words)


Start = Callable[..., Run]


@pytest.fixture(scope="module")
def images(provisioned: Rigup) -> dict[str, LabHostShell]:
    listed = provisioned.ok("lab.status", "--json").json["hosts"]
    hosts = {host["name"]: LabHostShell(host["container"]) for host in listed}
    for host in hosts.values():
        host.run(SMALL_IMAGE.read_text())
    return hosts


@pytest.fixture
def start(provisioned: Rigup, images: dict[str, LabHostShell], tmp_path: Path) -> Iterator[Start]:
    """A container job that writes until it is told to end with ``code``; told by SIGTERM it ends
    with ``on_term``, or at once by the signal."""
    runs: list[Run] = []

    def begin(
        host: str, *, code: int = 0, on_term: str = "-", image: str = WITH_SHELL, script: str = ""
    ) -> Run:
        where = tmp_path / f"code-{len(runs)}"
        where.mkdir()
        (where / "program.py").write_text(script or PROGRAM)

        def contain(data: dict[str, Any]) -> None:
            data["hosts"][host]["container"] = {"image": image}

        words = ("--host", host, "--runtime", "container", "--gpus", "0")
        words += ("--inventory", str(provisioned.with_hosts(where, contain)))
        train = ("train", "--script", "program.py", *words, "--", str(code), on_term)
        job = provisioned.ok(*train, cwd=where).out.strip()
        run = Run(provisioned, images[host], job)
        runs.append(run)
        if not script:
            wait_for(lambda: len(run.read("log")) > 1000, "its first lines")
        return run

    yield begin
    for run in runs:
        run.host.run(START_DOCKER)
        run.stop("--grace", "0")


@pytest.fixture
def live_restore(images: dict[str, LabHostShell]) -> Iterator[Callable[[str, bool], None]]:
    changed: set[str] = set()
    for found in images.values():
        settings = "/etc/docker/daemon.json"
        assert '"live-restore": true' in found.run(f"cat {settings}"), "as provisioned"

    def switch(host: str, on: bool) -> None:
        before, after = ("true", "false")[:: -1 if on else 1]
        change = f's/"live-restore": {before}/"live-restore": {after}/'
        images[host].run(f"sed -i '{change}' /etc/docker/daemon.json && systemctl reload docker")
        wait_for(
            lambda: after in images[host].run("docker info -f '{{.LiveRestoreEnabled}}'"), "reload"
        )
        changed.discard(host) if on else changed.add(host)

    yield switch
    for host in list(changed):
        images[host].run(START_DOCKER)
        switch(host, True)


def ended_well(run: Run, code: int = 0) -> None:
    record = run.finish()
    wanted = ("failed", code) if code else ("succeeded", 0)
    assert (record["state"], record["verdict"]["exit_code"]) == wanted, record
    log = run.read("log")
    assert log == exact_log(log)
    assert run.containers() == ""
    assert run.program() == ""


def restart_docker(run: Run) -> None:
    run.host.run("systemctl restart docker")


def kill_engine(run: Run) -> None:
    run.host.run("pkill -9 -x dockerd")
    wait_for(lambda: run.host.run("docker info >/dev/null 2>&1 && echo up", check=False), "Docker")


def kill_docker_client(run: Run) -> None:
    run.kill("^docker run")


def kill_supervisor(run: Run) -> None:
    run.host.run(f"kill -9 {run.details()['supervisor']['pid']}")


def kill_supervisor_and_client(run: Run) -> None:
    kill_supervisor(run)
    kill_docker_client(run)


@pytest.mark.parametrize(
    ("fault", "host"),
    [
        (restart_docker, OLD),
        (restart_docker, NEW),
        (kill_engine, NEW),
        (kill_docker_client, OLD),
        (kill_supervisor_and_client, NEW),
    ],
)
def test_a_fault_takes_no_byte_and_ends_nothing(
    start: Start, fault: Callable[[Run], None], host: str
) -> None:
    run = start(host, code=7)
    fault(run)
    time.sleep(2)
    assert run.rigup.ok("describe", run.job, "--json").json["job"]["state"] == "running"
    ended_well(run, code=7)


def test_a_new_supervisor_takes_over_while_docker_is_away(start: Start) -> None:
    run = start(NEW, code=7)
    before = run.details()["supervisor"]
    run.host.run(STOP_DOCKER)
    kill_supervisor(run)
    run.rigup.ok("jobs", "--json")
    wait_for(lambda: run.details()["supervisor"] != before, "another supervisor")
    time.sleep(3)
    assert not run.ended()
    run.host.run(START_DOCKER)
    ended_well(run, code=7)


def test_docker_away_for_two_minutes_ends_no_training_but_stop_does(start: Start) -> None:
    """Containers that ended meanwhile are removed when Docker is back, without any contact."""
    writing, ending = start(OLD), start(NEW, code=3)
    stopped = [start(host, on_term="5") for host in (OLD, NEW)]
    for run in stopped:
        run.host.run(STOP_DOCKER)
    began = time.monotonic()
    for run in stopped:
        done = run.stop("--grace", "10")
        assert done.code == 0, done.said
        assert "stopped" in done.out
        assert done.seconds < 10
        assert run.read("log").endswith(b"told to end")
        assert run.details()["verdict"]["cause"] == "stopped-by-user"
    time.sleep(began + AWAY_S - time.monotonic())
    assert [run.ended() for run in (writing, ending)] == [False, False]
    size = len(writing.read("log"))
    wait_for(lambda: len(writing.read("log")) > size, "it still writes", seconds=5)
    ending.host.run(f"touch {JOBS}/{ending.job}/outputs/go")
    wait_for(lambda: ending.program() == "", "its end")
    for run in stopped:
        run.host.run(START_DOCKER)
        wait_for(lambda run=run: run.containers() == "", "its container to be removed")
        mark = f"ls {JOBS}/{run.job}/container.env"
        wait_for(lambda run=run, mark=mark: not run.host.run(mark, check=False), "its mark")
    ended_well(writing)
    ended_well(ending, code=3)


def test_stop_while_docker_hangs(start: Start) -> None:
    run = start(NEW, on_term="5")
    run.host.run("pkill -STOP -x dockerd")
    try:
        done = run.stop("--grace", "1")
    finally:
        run.host.run("pkill -CONT -x dockerd")
    assert done.code == 0, done.said
    assert run.read("log").endswith(b"told to end")
    wait_for(lambda: run.containers() == "", "its container to be removed")


def test_a_left_container_is_removed_at_the_next_contact_and_no_other(start: Start) -> None:
    run = start(OLD)
    run.host.run(STOP_DOCKER)
    assert run.stop("--grace", "1").code == 0
    run.host.run("pkill -9 -f '[.]pyz sweep'")
    run.host.run(START_DOCKER)
    other = run.host.run(f"docker create --label rigup.job=another-job {WITH_SHELL} true").strip()
    try:
        assert run.containers() != ""
        run.rigup.ok("jobs", "--json")
        wait_for(lambda: run.containers() == "", "its container to be removed")
        assert other in run.host.run("docker ps -aq --no-trunc")
    finally:
        run.host.run(f"docker rm {other}")


def by_hand(run: Run, command: str) -> None:
    run.host.run(command.format(run.containers()))


@pytest.mark.parametrize(
    ("command", "name", "said", "host"),
    [
        ("docker rm -f {}", "SIGKILL", "removed from outside (docker rm -f)", OLD),
        ("docker rm -f {}", "SIGKILL", "removed from outside (docker rm -f)", NEW),
        ("docker stop {}", "SIGTERM", "docker stop from outside", OLD),
        ("docker kill {}", "SIGKILL", "docker kill from outside", NEW),
        ("kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' {})", "SIGKILL", "ended by", NEW),
    ],
)
def test_who_ended_it_is_said(start: Start, command: str, name: str, said: str, host: str) -> None:
    run = start(host)
    by_hand(run, command)
    verdict = run.record()["verdict"]
    assert (verdict["cause"], verdict["signal"]) == ("signal", name), verdict
    assert said in verdict["evidence"]
    assert "image name" not in verdict["hint"]
    assert run.containers() == ""


@BOTH
def test_without_live_restore_docker_is_named_as_the_cause(
    start: Start, live_restore: Callable[[str, bool], None], host: str
) -> None:
    live_restore(host, False)
    run = start(host)
    restart_docker(run)
    verdict = run.record()["verdict"]
    assert verdict["cause"] == "signal", verdict
    assert "live-restore is off" in verdict["evidence"]
    log = run.read("log")
    assert exact_log(log + b"end 100000").startswith(log), "up to its end, no byte is missing"


def test_out_of_memory_in_the_container(start: Start) -> None:
    run = start(OLD, script=GREEDY)
    wait_for(lambda: run.read("log") == b"up\n", "its start")
    by_hand(run, "docker update --memory 64m --memory-swap 64m {}")
    verdict = run.record()["verdict"]
    assert verdict["cause"] == "container-out-of-memory", verdict


def test_an_image_without_a_shell_loses_no_byte_either(start: Start) -> None:
    """Its Python opens the log."""
    run = start(NEW, code=7, image=NO_SHELL)
    kill_docker_client(run)
    ended_well(run, code=7)


def test_a_removed_supervisor_and_container_did_not_end_by_itself(start: Start) -> None:
    run = start(NEW)
    container = run.containers()
    kill_supervisor(run)
    run.host.run(f"docker rm -f {container}")
    verdict = run.record()["verdict"]
    assert "removed from outside" in verdict["evidence"]


@pytest.mark.parametrize(("host", "kept"), [(OLD, True), (NEW, False)])
def test_a_reboot_waits_for_no_container_job(
    start: Start, live_restore: Callable[[str, bool], None], host: str, kept: bool
) -> None:
    if not kept:
        live_restore(host, False)
    run = start(host, on_term="9")
    before = boot_id(run.host)
    began = time.monotonic()
    run.host.run("systemctl reboot", check=False)
    wait_for(lambda: is_down(run.host) or boot_id(run.host) != before, "it to go down")
    assert time.monotonic() - began < 30
    running = "systemctl is-system-running"
    wait_for(lambda: run.host.run(running, check=False).strip() == "running", "it to boot")
    record = run.record()
    assert (record["state"], record["verdict"]["cause"]) == ("lost", "reboot"), record
    assert run.read("log").endswith(b"told to end"), "it was told, and had time to save"
    wait_for(lambda: run.containers() == "", "its container to be removed")


def boot_id(host: LabHostShell) -> str:
    return host.run("cat /proc/sys/kernel/random/boot_id", check=False)


def is_down(host: LabHostShell) -> bool:
    words = ["docker", "inspect", "--format", "{{.State.Running}}", host.container]
    return subprocess.run(words, capture_output=True, check=True).stdout.strip() == b"false"
