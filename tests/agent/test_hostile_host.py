"""Every command that talks to an agent, against one that lies, with an honest host beside it.

Nothing may be written outside the target, no command may run longer than its deadlines, memory is
bounded, the honest host's results are shown, and the terminal gets no escape but colours.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hostile_agent import JOB
from ssh_server import free_port, new_key

HOSTILE = Path(__file__).resolve().parent.parent / "support" / "hostile_agent.py"
PROGRAM = r"""
import atexit, os, re
from pathlib import Path

def note_peak_memory():
    status = Path("/proc/self/status").read_text()
    Path(os.environ["MEMORY_FILE"]).write_text(re.search(r"VmHWM:\s*(\d+) kB", status)[1])

atexit.register(note_peak_memory)
import tasks
tasks.main()
"""
"""Resource usage as the parent sees it would count what the parent had before the exec."""
ROOT = Path(__file__).resolve().parent.parent.parent

MEMORY_LIMIT_MIB = 300
WITHIN_S = 40.0
"""Far above the deadlines of two seconds a wait, far below for ever."""
ESCAPE = re.compile(
    r"\x1b(?!\[[0-9;:]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u200b\u202e]"
)
FORGED = re.compile(r"^forged", re.MULTILINE)
"""A line that a host wrote and that looks like one of ours."""

FAKE_PYTHON = """#!/bin/sh
case " $* " in *" serve "*) exec {python} {agent} "$(cat {lie})" ;; esac
exec {python} "$@"
"""


@dataclass
class Done:
    code: int
    screen: str
    seconds: float
    memory_mib: float


@dataclass
class Bench:
    """A client's home, and two hosts: ``evil`` and ``honest``."""

    directory: Path

    def lie(self, name: str) -> None:
        (self.directory / "lie").write_text(name)

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def work(self) -> Path:
        return self.directory / "work"

    def __call__(self, *words: str) -> Done:
        """Run the program on a terminal of its own."""
        ours, theirs = pty.openpty()
        started = time.monotonic()
        with contextlib.closing(_Screen(ours)) as screen:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                cwd=self.work,
                env=self._environment(),
            )
            os.close(theirs)
            killer = threading.Timer(WITHIN_S, process.kill)
            killer.start()
            process.wait()
            killer.cancel()
            text = screen.text()
        seconds = time.monotonic() - started
        return Done(process.returncode, text, seconds, self._peak_memory_mib())

    def _peak_memory_mib(self) -> float:
        noted = self.directory / "memory"
        try:
            return int(noted.read_text()) / 1024
        except FileNotFoundError:
            return 0.0  # it was killed, which fails the test for its time
        finally:
            noted.unlink(missing_ok=True)

    def files(self) -> dict[str, bytes]:
        """Every file of the client but rigup's own, with its content."""
        own = self.home / ".rigup"
        found = [*self.home.rglob("*"), *self.work.rglob("*")]
        return {
            str(path): path.read_bytes()
            for path in found
            if path.is_file() and not path.is_relative_to(own)
        }

    def _environment(self) -> dict[str, str]:
        kept = {"PATH", "LANG", "LC_ALL", "TERM"}
        environment = {key: value for key, value in os.environ.items() if key in kept}
        environment |= {"HOME": str(self.home), "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        environment["MEMORY_FILE"] = str(self.directory / "memory")
        return {**environment, "RIGUP_INVENTORY": str(self.directory / "hosts.yaml")}


class _Screen:
    """Reads a terminal until it is closed at the other end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        self._thread.join(10)
        return self._data.decode("utf-8", "replace")

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 65536):
                self._data += data


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("hostile")
    bench = Bench(directory)
    for path in (bench.home / ".ssh", bench.home / ".rigup", bench.work, directory / "bin"):
        path.mkdir(parents=True)
    (bench.home / ".ssh/authorized_keys").write_text("mine\n")
    (bench.work / "train.py").write_text("print('trained')\n")
    for name in ("host_key", "client"):
        new_key(directory / name)
    fake = directory / "bin" / "python3"
    lie = directory / "lie"
    fake.write_text(FAKE_PYTHON.format(python=sys.executable, agent=HOSTILE, lie=lie))
    fake.chmod(0o755)
    with contextlib.ExitStack() as running:
        hosts = {}
        for name, path in (("evil", f"{directory}/bin:{os.environ['PATH']}"), ("honest", None)):
            hosts[name] = running.enter_context(_host(directory, name, path))
        (directory / "hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
        _pin(bench, [int(str(host["port"])) for host in hosts.values()])
        bench.lie("greets with a banner")
        assert bench("jobs", "--host", "honest").code == 0  # deploys the agent
        yield bench


@contextlib.contextmanager
def _host(directory: Path, name: str, path: str | None) -> Iterator[dict[str, object]]:
    home, port = directory / f"{name}-home", free_port()
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), **({"PATH": path} if path else {})}
    keys = [str(directory / "host_key"), str(directory / "client.pub")]
    server = subprocess.Popen(
        [sys.executable, "-m", "provisioner.demo.server", str(port), *keys],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == b"ready"
        yield {
            "address": "127.0.0.1",
            "port": port,
            "identity_file": str(directory / "client"),
            "python": sys.executable,
            "command_timeout": 2 if name == "evil" else 60,
            "connect_timeout": 10,
        }
    finally:
        server.kill()
        server.communicate()


def _pin(bench: Bench, ports: list[int]) -> None:
    kind, text, *_ = (bench.directory / "host_key.pub").read_text().split()
    lines = [f"[127.0.0.1]:{port} {kind} {text}\n" for port in ports]
    (bench.home / ".rigup/known_hosts").write_text("".join(lines))


def check(bench: Bench, lie: str, *words: str) -> Done:
    """Run one command against the lie; what must hold for all of them."""
    bench.lie(lie)
    before = bench.files()
    done = bench(*words)
    assert done.seconds < WITHIN_S, done.screen
    assert done.memory_mib < MEMORY_LIMIT_MIB, f"{done.memory_mib:.0f} MiB"
    assert not ESCAPE.search(done.screen.replace("\r\n", "\n").replace("\r", "")), done.screen
    assert not FORGED.search(done.screen)
    assert "Traceback" not in done.screen
    changed = {name for name, data in bench.files().items() if before.get(name) != data}
    allowed = (str(bench.work / "outputs" / JOB), str(bench.directory / "board"))
    assert not [name for name in changed if not name.startswith(allowed)]
    return done


LISTS = [
    "job id that leaves",
    "job id with escapes",
    "job id with a newline",
    "time beyond the calendar",
    "time that is a text",
    "not a number",
    "nested",
    "many empty lists",
    "one wide text",
    "answers of others",
    "payload too large",
    "endless header",
    "silent",
    "refusal with escapes",
    "greets with nothing",
    "greets with a banner",
    "greets with nonsense",
    "greets without an agent",
    "is never there",
    "is of another age",
    "hangs up",
    "stops reading",
]


@pytest.mark.parametrize("lie", LISTS)
def test_jobs_names_the_liar_and_shows_the_honest_host(bench: Bench, lie: str) -> None:
    done = check(bench, lie, "jobs")
    assert done.code == 1
    assert "evil: " in done.screen
    assert "no jobs" in done.screen  # what the honest host has


def test_escapes_in_texts_are_shown_without_effect(bench: Bench) -> None:
    done = check(bench, "escapes in texts", "jobs")
    assert done.code == 0
    assert JOB in done.screen
    assert check(bench, "escapes in texts", "describe", JOB).code == 0
    assert check(bench, "escapes in texts", "logs", JOB).code in (0, 1)
    assert check(bench, "escapes in texts", "jobs", "--json").code == 0


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("submit tells another job", ("train", "--script", "train.py", "--host", "evil")),
        ("submit is silent", ("train", "--script", "train.py", "--host", "evil")),
        ("stops reading", ("train", "--script", "train.py", "--host", "evil")),
        ("stop tells another job", ("stop", JOB, "--grace", "1")),
        ("stop is silent", ("stop", JOB, "--grace", "1")),
        ("log from elsewhere", ("logs", JOB)),
        ("log of nonsense", ("logs", JOB)),
        ("log of nonsense", ("logs", JOB, "--follow")),
        ("log is silent", ("logs", JOB)),
        ("log is promised", ("logs", JOB)),
        ("log is promised", ("logs", JOB, "--follow")),
        ("log is promised", ("train", "--script", "train.py", "--host", "evil", "--follow")),
        ("outputs that hoard", ("pull", JOB)),
        ("outputs one by one", ("pull", JOB)),
        ("outputs that leave", ("pull", JOB)),
        ("outputs that are absolute", ("pull", JOB)),
        ("outputs without end", ("pull", JOB)),
        ("output beyond its end", ("pull", JOB)),
        ("output of nonsense", ("pull", JOB)),
        ("output is silent", ("pull", JOB)),
        ("outputs are silent", ("pull", JOB)),
        ("silent", ("describe", JOB)),
        ("job id that leaves", ("pull", JOB)),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_lie_ends_the_command_with_an_error(
    bench: Bench, lie: str, words: tuple[str, ...]
) -> None:
    done = check(bench, lie, *words)
    assert done.code in (1, 2)
    assert "try: " in done.screen
    assert not Path("/tmp/rigup-hostile-output").exists()


@pytest.mark.parametrize(
    "lie",
    [
        "outputs with escapes",
        "output of one hole",
        "output that changes",
        "output of other bytes",
    ],
)
def test_a_file_that_does_not_hold_together_is_named_and_not_pulled(bench: Bench, lie: str) -> None:
    done = check(bench, lie, "pull", JOB)
    assert done.code == 1
    assert "not pulled: " in done.screen
    assert not [path for path in (bench.work / "outputs" / JOB).rglob("a*") if path.is_file()]


def test_what_an_honest_answer_leads_to(bench: Bench) -> None:
    """What the lies are told in the place of."""
    assert check(bench, "answers early", "pull", JOB).code == 0
    assert (bench.work / "outputs" / JOB / "a").read_bytes() == b"abcd"


@pytest.mark.parametrize(
    "lie",
    [
        "watch of nonsense",
        "watch that floods",
        "watch that hoards jobs",
        "watch of giant samples",
        "watch of extremes",
        "watch is silent",
        "greets with nothing",
    ],
)
def test_the_dashboard_shows_the_honest_host(bench: Bench, lie: str) -> None:
    board = bench.directory / "board.svg"
    done = check(bench, lie, "dashboard", "--screenshot", str(board))
    assert done.code in (0, 1)
    if board.exists():
        assert "honest" in board.read_text()
        board.unlink()


def test_the_limit_of_memory_means_something(bench: Bench) -> None:
    assert 20 < check(bench, "greets with a banner", "jobs").memory_mib < MEMORY_LIMIT_MIB
