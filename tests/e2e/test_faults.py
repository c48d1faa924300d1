"""What breaks while a job runs, as a table: after each fault the log is exact to the byte, the
verdict is right, no process of the job is left, and its GPUs are free.

A host's clock is the machine's own here, so that setting it back is not among the rows; a full
disk and a silent Docker have files of their own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lab_program import LabHostShell, Rigup, wait_for
from slow_link import slow_link

pytestmark = pytest.mark.e2e

OLD, NEW = "lab01", "lab02"
"""Debian 12 and 13."""
SERIAL = itertools.count(1)
JOBS = "/home/lab/.rigup/jobs"
ROOT_MAY_LOG_IN = "/etc/ssh/sshd_config.d/00-root.conf"
SOURCES = ("inventory", "provisioner", "remote_agent", "tui", "tasks.py")
PIECE = bytes(range(256)) * 4096
UNSEEN = "nobody saw when and how"
BIG_LOG = 200 * len(PIECE)

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
    host_name: str
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

    def follow_again(self, *words: str) -> None:
        self.follower.send_signal(signal.SIGKILL)
        self.follower.wait()
        with self.followed.open("wb") as sink:
            follow = ("logs", self.job, "--follow", *words)
            self.follower = self.rigup.start(*follow, stdout=sink)

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
def start(provisioned: Rigup, shell, tmp_path: Path) -> Iterator[Start]:
    """A job of ``lines`` lines on one GPU of ``host``, once it has written something."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "program.py").write_text(PROGRAM)
    runs: list[Run] = []

    def begin(host: str, lines: int = 60) -> Run:
        mark = f"{7000 + next(SERIAL)}"
        words = ("train", "--script", "program.py", "--host", host, "--runtime", "process")
        arguments = ("--gpus", "1", "--", mark, str(lines))
        job = provisioned.ok(*words, *arguments, cwd=code).out.strip()
        log = tmp_path / f"{job}.log"
        with log.open("wb") as sink:
            follower = provisioned.start("logs", job, "--follow", stdout=sink)
        run = Run(provisioned, shell(host), host, job, mark, log, follower)
        runs.append(run)
        wait_for(lambda: log.stat().st_size and len(run.processes().splitlines()) == 2, "its start")
        return run

    yield begin
    for run in runs:
        run.follower.kill()
        run.follower.wait()
        provisioned("stop", run.job, "--grace", "0")


@pytest.fixture
def train(provisioned: Rigup, tmp_path: Path) -> Callable[..., str]:
    """Start a script of these lines without a follower; the job's id."""

    def begin(host: str, script: str, *words: str, gpus: int = 0) -> str:
        code = tmp_path / f"code-{next(SERIAL)}"
        code.mkdir()
        (code / "script.py").write_text(script)
        which = ("--script", "script.py", "--host", host, "--gpus", str(gpus))
        started = provisioned.ok("train", *which, "--runtime", "process", *words, cwd=code)
        return started.out.strip()

    return begin


def kill_client(run: Run) -> None:
    run.follow_again()


def kill_serve(run: Run) -> None:
    run.kill_agents("serve")


def kill_supervisor(run: Run) -> None:
    run.kill("supervisor")


def kill_program(run: Run) -> None:
    run.kill("process")


def kill_both(run: Run) -> None:
    run.kill("supervisor", "process")


@contextlib.contextmanager
def packet_rule(host: LabHostShell, rule: str) -> Iterator[None]:
    host.run(f"iptables -I INPUT -p tcp --dport 22 {rule}")
    try:
        yield
    finally:
        host.run(f"iptables -D INPUT -p tcp --dport 22 {rule}")


def drop_packets(run: Run) -> None:
    with packet_rule(run.host, "-j DROP"):
        time.sleep(20)


def slow_and_lossy(run: Run) -> None:
    """300 ms there and back, and 5 % of the packets to the host are lost."""
    loss = "-m statistic --mode random --probability 0.05 -j DROP"
    port = run.rigup.inventory()["hosts"][run.host_name]["port"]
    with packet_rule(run.host, loss), slow_link(port, 0.15) as far:
        pins = run.rigup.home / "known_hosts"
        known = pins.read_text()
        pins.write_text(known + known.replace(f":{port} ", f":{far} "))
        try:
            inventory = run.rigup.with_hosts(
                run.followed.parent, lambda data: data["hosts"][run.host_name].update(port=far)
            )
            run.follow_again("--inventory", str(inventory))
            run.follower.wait(timeout=60)
        finally:
            pins.write_text(known)


def freeze(run: Run) -> None:
    """The other host's jobs are shown, the frozen one is named, and that takes no longer than a
    host may take to connect."""
    run.host.docker("pause")
    try:
        shown = run.rigup("jobs", "--json", timeout=60)
    finally:
        run.host.docker("unpause")
    assert shown.code == 1, shown.said
    failed = {found["host"]: found["error"] is not None for found in shown.json}
    assert failed == {name: name == run.host_name for name in (OLD, NEW)}


def reboot(run: Run) -> None:
    run.host.run("systemctl reboot", check=False)


def cut_the_power(run: Run) -> None:
    run.host.docker("kill")
    run.host.docker("start")


def deploy_another_agent(run: Run) -> None:
    """A client of another version comes along: its agent has another hash."""
    copy = run.followed.parent / "another-version"
    copy.mkdir()
    root = Path(__file__).parents[2]
    for name in SOURCES:
        source = root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    with (copy / "remote_agent" / "__init__.py").open("a") as module:
        module.write("# another version\n")
    before = run.host.run("readlink /home/lab/.rigup/agent/current.pyz")
    shown = run.rigup.ok("describe", run.job, "--json", cwd=copy).json["job"]
    run.rigup.ok("provision", "--host", run.host_name, cwd=copy)
    assert run.host.run("readlink /home/lab/.rigup/agent/current.pyz") != before
    assert shown["state"] == "running"


@dataclass(frozen=True)
class Row:
    """``whole``: the program writes all its lines in spite of the fault."""

    name: str
    fault: Callable[[Run], None]
    state: str
    cause: str
    hosts: tuple[str, ...] = (OLD, NEW)
    whole: bool = True
    said: str = ""
    lines: int = 60

    def cases(self) -> list[Any]:
        return [pytest.param(self, host, id=f"{self.name}-{host}") for host in self.hosts]


ROWS = (
    Row("client", kill_client, "succeeded", "success", (OLD,)),
    Row("serve", kill_serve, "succeeded", "success", (NEW,)),
    Row("supervisor", kill_supervisor, "lost", "lost", said="exit code is not known"),
    Row("program", kill_program, "failed", "signal", (NEW,), whole=False),
    Row("supervisor and program", kill_both, "lost", "lost", whole=False, said=UNSEEN),
    Row("packets dropped", drop_packets, "succeeded", "success", (OLD,)),
    Row("slow and lossy", slow_and_lossy, "succeeded", "success", (NEW,), lines=100),
    Row("frozen host", freeze, "succeeded", "success", (NEW,)),
    Row("reboot", reboot, "lost", "reboot", (OLD,), whole=False, lines=10_000),
    Row("power cut", cut_the_power, "lost", "reboot", (NEW,), whole=False, lines=10_000),
    Row("another agent", deploy_another_agent, "succeeded", "success", (NEW,), lines=150),
)


@pytest.mark.parametrize(("row", "host"), [case for row in ROWS for case in row.cases()])
def test_a_fault_loses_no_byte_and_leaves_nothing(
    start: Start, train: Callable[..., str], row: Row, host: str
) -> None:
    run = start(host, row.lines)
    row.fault(run)
    run.follower.wait(timeout=90)  # it notices by itself, without any other contact
    record = run.record()
    assert (record["state"], record["verdict"]["cause"]) == (row.state, row.cause), record
    assert row.said in record["verdict"]["evidence"]
    assert run.followed.read_bytes() == run.log_on_host()
    if row.whole:
        assert run.log_on_host() == expected_log(row.lines)
    assert run.processes() == ""
    _all_gpus_are_free(run, train)


def _all_gpus_are_free(run: Run, train: Callable[..., str]) -> None:
    job = train(run.host_name, "print('free')\n", gpus=2)
    assert run.rigup.ok("logs", job, "--follow", timeout=30).out == "free\n"


def test_stop_finds_what_is_left_where_the_records_are_damaged(start: Start) -> None:
    run = start(NEW, 10_000)
    run.kill("supervisor", "process")
    run.host.run(f"truncate -s 0 {JOBS}/{run.job}/state.json")
    run.rigup("stop", run.job, "--grace", "1")
    assert run.processes() == ""


def test_a_killed_dispatcher_is_replaced(start: Start, train: Callable[..., str], shell) -> None:
    run = start(OLD, 100)
    queued = train(OLD, "print('its turn')\n", gpus=2)
    found = run.rigup.ok("describe", queued, "--json").json["job"]
    assert found["state"] == "queued"
    run.kill_agents("dispatch")
    run.follower.wait(timeout=60)
    assert run.rigup.ok("logs", queued, "--follow", timeout=30).out == "its turn\n"


def test_roots_jobs_are_in_a_scope_of_the_systems_manager(
    provisioned: Rigup, train: Callable[..., str], shell, tmp_path: Path
) -> None:
    host, mark = shell(NEW), f"{7000 + next(SERIAL)}"
    host.run("install -D -m 600 /home/lab/.ssh/authorized_keys /root/.ssh/authorized_keys")
    host.run(f"echo PermitRootLogin prohibit-password >{ROOT_MAY_LOG_IN}; systemctl reload ssh")
    inventory = provisioned.with_hosts(
        tmp_path, lambda data: data["hosts"][NEW].update(user="root")
    )
    where = ("--inventory", str(inventory))
    try:
        job = train(NEW, PROGRAM, *where, "--", mark, "10000")
        state = f"/root/.rigup/jobs/{job}/state.json"
        wait_for(lambda: "running" in host.run(f"cat {state}"), "its start")
        told = json.loads(host.run(f"cat {state}"))
        assert "/system.slice/rigup-job-" in told["cgroup"]
        wait_for(lambda: f"sleep {mark}.2" in host.run("ps ax -o args"), "its helpers")
        host.run(f"kill -9 {told['supervisor']['pid']} {told['process']['pid']}")
        provisioned.ok("stop", job, *where)
        assert f"sleep {mark}." not in host.run("ps ax -o args")
    finally:
        host.run(f"rm -rf {ROOT_MAY_LOG_IN} /root/.ssh/authorized_keys /root/.rigup")
        host.run("systemctl reload ssh")


def test_a_user_who_does_not_linger_keeps_jobs_after_the_logout(
    provisioned: Rigup, train: Callable[..., str], shell
) -> None:
    """systemd ends such a user's manager, and every scope in it, ten seconds after the logout. So
    there is no cgroup, and what runs as root cannot be ended: it is named."""
    host, mark = shell(OLD), f"{7000 + next(SERIAL)}"
    host.run("loginctl disable-linger lab")
    try:
        job = train(OLD, f"import os\nos.system('sudo -n setsid sleep {mark}.1')\n")
        time.sleep(12)
        told = json.loads(host.run(f"cat {JOBS}/{job}/state.json"))
        assert told["state"] == "running"
        host.run(f"kill -9 {told['supervisor']['pid']}")
        provisioned.ok("stop", job, "--grace", "0")
        verdict = provisioned.ok("describe", job, "--json").json["job"]["verdict"]
        assert "no cgroup of its own" in verdict["evidence"]
        assert "could not be ended: " in verdict["evidence"]
        pid = host.run(f"pgrep -xf 'sleep {mark}.1'").strip()
        assert f"sleep (pid {pid})" in verdict["evidence"]
    finally:
        host.run(f"pkill -9 -f 'sleep {mark}[.]'", check=False)
        host.run("loginctl enable-linger lab")


ESCAPES = """\
import os, subprocess, sys, time
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.run(["systemd-run", "--user", "sleep", "{mark}.1"], check=True, **quiet)
scope = ["systemd-run", "--user", "--scope", "sleep", "{mark}.2"]
subprocess.Popen(["env", "-i", "XDG_RUNTIME_DIR=" + os.environ["XDG_RUNTIME_DIR"], *scope], **quiet)
subprocess.Popen(scope[:-1] + ["{mark}.3"], **quiet)
subprocess.Popen(["sudo", "-n", "setsid", "sleep", "{mark}.5"], **quiet)
subprocess.run([*scope[:2], "-E", "RIGUP_JOB_ID", "sleep", "{mark}.4"], check=True, **quiet)
print("up", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("host", [OLD, NEW])
def test_what_systemd_run_started_is_ended_or_named(
    provisioned: Rigup, train: Callable[..., str], shell, host: str
) -> None:
    """A service of the user's own manager may be another's: it is named, and not ended. What runs
    as root in the job's cgroup is ended."""
    mark = f"{7000 + next(SERIAL)}"
    job = train(host, ESCAPES.format(mark=mark))
    ps = f"ps ax -o args | grep -E '^(/usr)?(/bin/)?sleep {mark}[.]' || :"
    wait_for(lambda: len(shell(host).run(ps).splitlines()) == 5, "its helpers")
    provisioned.ok("stop", job, "--grace", "1")
    left = shell(host).run(ps).splitlines()
    verdict = provisioned.ok("describe", job, "--json").json["job"]["verdict"]
    try:
        assert [line.split()[-1] for line in left] == [f"{mark}.1"]
        assert verdict["cause"] == "stopped-by-user"
        assert "systemd-run started run-" in verdict["evidence"]
        assert "`systemctl --user stop run-" in verdict["evidence"]
    finally:
        shell(host).run(f"pkill -9 -f 'sleep {mark}[.]'", check=False)


def test_a_big_log_that_is_written_fast_arrives_whole(
    provisioned: Rigup, train: Callable[..., str], tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "piece = bytes(range(256)) * 4096\n"
        f"for number in range({BIG_LOG // len(PIECE)}):\n"
        "    sys.stdout.buffer.write(piece)\n"
    )
    job = train(OLD, script)
    log = tmp_path / "big.log"
    with log.open("wb") as sink:
        follower = provisioned.start("logs", job, "--follow", stdout=sink)
    assert follower.wait(timeout=120) == 0
    assert log.stat().st_size == BIG_LOG
    told = provisioned.ok("describe", job, "--json").json["job"]
    assert (told["state"], told["log_bytes"]) == ("succeeded", BIG_LOG)
    assert log.read_bytes() == PIECE * (BIG_LOG // len(PIECE))


def test_a_job_that_truncates_its_log_still_ends(
    provisioned: Rigup, train: Callable[..., str], tmp_path: Path
) -> None:
    script = (
        "import os, time\n"
        "os.write(1, b'before\\n' * 1000)\n"
        "time.sleep(1)\n"
        "os.truncate('/proc/self/fd/1', 0)\n"
        "os.write(1, b'after\\n')\n"
    )
    job = train(NEW, script)
    provisioned.ok("logs", job, "--follow", timeout=30)
    told = provisioned.ok("describe", job, "--json").json["job"]
    assert (told["state"], told["log_bytes"]) == ("succeeded", len("after\n"))
