"""Two runs on one host: the lock's script below made-up SSH servers, and what the runs say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripted_host import Package, ScriptedHost

from inventory import Host
from provisioner.command import Command, Result
from provisioner.errors import BlockedError, CommandFailed, ExitCode, SudoError
from provisioner.host_job import Job
from provisioner.host_lock import HELD, PATH, SCRIPT, HostLock
from provisioner.runner import check_only, provision
from provisioner.transport.fake import FakeTransport

TAKE = 'while read -r run; do sh -c "$1" sh "$2" "$run" "$run of alice"; echo "code $?"; done'
Server = Callable[[str], "Connection"]


class Connection:
    """A process that looks like the SSH server's, below which commands run."""

    def __init__(self, program: Path, lock: Path) -> None:
        self._process = subprocess.Popen(
            [str(program), "-c", TAKE, "sh", SCRIPT, str(lock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, run: str) -> tuple[int, str]:
        """The script's exit code, and what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{run}\n")
        self._process.stdin.flush()
        told = ""
        for line in self._process.stdout:
            if line.startswith("code "):
                return int(line.split()[1]), told
            told += line
        raise AssertionError("the connection ended")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Server]:
    shell = shutil.which("dash") or shutil.which("sh")
    assert shell is not None
    opened: list[Connection] = []

    def connection(name: str) -> Connection:
        program = tmp_path / name
        if not program.exists():
            shutil.copy(shell, program)
        opened.append(Connection(program, tmp_path / "run/at-work"))
        return opened[-1]

    yield connection
    for one in opened:
        one.kill()


@pytest.mark.parametrize("name", ["sshd", "sshd-session", "dropbear"])
def test_the_second_run_is_told_who_is_at_work(connect: Server, name: str) -> None:
    one, other = connect(name), connect(name)
    assert one.take("first") == (0, "")
    code, told = other.take("second")
    assert code == HELD
    assert told.startswith("first of alice (its connection is process ")
    assert one.take("first") == (0, ""), "before its next change"


def test_a_run_that_was_killed_holds_nothing(connect: Server) -> None:
    one, other = connect("sshd"), connect("sshd")
    assert one.take("first") == (0, "")
    one.kill()
    assert other.take("second") == (0, "")


def test_a_run_that_connects_anew_keeps_its_lock(connect: Server) -> None:
    one, again, other = connect("sshd"), connect("sshd"), connect("sshd")
    assert one.take("first") == (0, "")
    assert again.take("first") == (0, "")
    one.kill()
    assert other.take("second")[0] == HELD


@pytest.mark.parametrize("content", ["", "first\n", "first\n1\n0\nalice\n", "\0\n\n\n\n"])
def test_a_lock_that_nobody_can_hold(connect: Server, tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/at-work").write_text(content)
    assert connect("sshd").take("second") == (0, "")


def answering(code: int, text: str = "") -> FakeTransport:
    return FakeTransport(lambda command: Result(command, code, text.encode()), host_name="gpu01")


def test_another_run_blocks_and_a_broken_lock_fails() -> None:
    with pytest.raises(BlockedError, match="another run of rigup changes this host: alice"):
        HostLock(answering(HELD, "alice@laptop since 12:00")).hold()
    with pytest.raises(CommandFailed):
        HostLock(answering(1)).hold()


def test_who_may_not_become_root_goes_on() -> None:
    def refuse(command: Command) -> Result:
        raise SudoError("no", host="gpu01")

    HostLock(FakeTransport(refuse)).hold()


def test_a_run_changes_nothing_while_another_is_at_work() -> None:
    host = ScriptedHost(packages={"one": "1"})
    transport = host.transport()
    inner = transport.run

    def run(command: Command, **options: object) -> Result:
        if PATH in command.words:
            return Result(command, HELD, b"alice@laptop")
        return inner(command)

    transport.run = run  # type: ignore[method-assign, assignment]
    job = Job(Host(host.name, host.name), transport)
    report = provision(job, (Package("one"), Package("two")), lambda *words: None)
    assert (report.exit_code, report.changed) == (ExitCode.BLOCKED, 0)
    assert "alice@laptop" in str(report.error)
    assert "two" not in host.packages


def test_looking_takes_no_lock() -> None:
    host = ScriptedHost(packages={"one": "1"})
    transport = host.transport()
    check_only(Job(Host(host.name, host.name), transport), (Package("two"),), lambda *w: None)
    provision(Job(Host(host.name, host.name), transport), (Package("one"),), lambda *w: None)
    assert not any(PATH in command.words for command in transport.commands)
