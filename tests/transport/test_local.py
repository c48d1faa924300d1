"""The local transport keeps the same promises as SSH."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from provisioner.command import Command
from provisioner.errors import CommandFailed, CommandTimeout, ConnectionLost, TransportError
from provisioner.transport.local import LocalTransport, ProcessSession


@pytest.fixture
def local() -> LocalTransport:
    return LocalTransport("here")


def test_a_command_with_input_output_and_status(local: LocalTransport) -> None:
    heard: list[bytes] = []
    result = local.run(
        Command.sh("cat; echo oops >&2; exit 3", stdin=b"in\0put"), on_output=heard.append
    )
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"in\0put", b"oops\n")
    assert b"".join(heard) == b"in\0putoops\n"


def test_commands_start_in_the_home_directory(
    local: LocalTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    local.put(b"data", PurePosixPath("below/file"), mode=0o600)
    assert (tmp_path / "below" / "file").read_bytes() == b"data"
    assert local.get(PurePosixPath("below/file")) == b"data"


def test_a_missing_file_is_a_failed_command(local: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="No such file") as raised:
        local.get(PurePosixPath(tmp_path / "none"))
    assert raised.value.host == "here"


def test_a_command_that_does_not_end_is_stopped_with_its_children(
    local: LocalTransport, tmp_path: Path
) -> None:
    script = 'sleep 60 >/dev/null 2>&1 & echo $! > "$1"; wait; true'
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(CommandTimeout, match="did not end in time") as raised:
        local.run(Command.sh(script, str(pid_file), timeout_s=0.2))
    assert raised.value.host == "here"
    assert time.monotonic() - started < 20, "it waited for the child"
    child = Path("/proc", pid_file.read_text().strip())
    assert_gone(child)


def assert_gone(process: Path) -> None:
    deadline = time.monotonic() + 10
    while process.exists() and "Z" not in (process / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.01)


def test_a_command_that_prints_without_end_is_given_up(local: LocalTransport) -> None:
    command = Command.of("yes", max_output_bytes=1 << 20)
    with pytest.raises(TransportError, match="`yes` printed more than 1048576 bytes") as raised:
        local.run(command)
    assert raised.value.host == "here"


def test_both_streams_count_towards_the_limit(local: LocalTransport) -> None:
    script = "printf 123456; printf 123456 >&2"
    assert local.run(Command.sh(script, max_output_bytes=12)).ok
    with pytest.raises(TransportError, match="more than 11 bytes"):
        local.run(Command.sh(script, max_output_bytes=11))


def test_much_input_and_much_output_at_once(local: LocalTransport) -> None:
    data = b"0123456789abcdef" * 65536
    assert local.run(Command.of("cat", stdin=data)).stdout == data


def test_input_that_nobody_reads_does_no_harm(local: LocalTransport) -> None:
    assert local.run(Command.of("true", stdin=b"x" * 1_000_000)).ok


@pytest.fixture
def start() -> Iterator[Callable[..., ProcessSession]]:
    sessions: list[ProcessSession] = []

    def open_one(*argv: str) -> ProcessSession:
        sessions.append(ProcessSession(list(argv)))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()
        assert session._process.stdout is not None
        session._process.stdout.close()


Start = Callable[..., ProcessSession]


def test_a_session_speaks_both_ways(start: Start) -> None:
    session = start("sh", "-c", "head -c 4; echo done >&2; exit 5")
    session.write(b"ping")
    assert session.read() == b"ping"
    assert session.read() == b""
    session.close()
    assert session.exit_code() == 5
    assert session.stderr_tail() == "done\n"


def test_a_session_is_closed_twice_without_harm(start: Start) -> None:
    session = start("cat")
    assert session.exit_code() is None
    session.close()
    session.close()
    assert session.exit_code() is not None


def test_writing_to_a_program_that_is_gone_is_a_lost_connection(start: Start) -> None:
    session = start("true")
    session._process.wait()
    with pytest.raises(ConnectionLost):
        session.write(b"anyone?")
