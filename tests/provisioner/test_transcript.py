"""The transcript holds everything but secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from provisioner.actions import WriteFile
from provisioner.command import Command, Result
from provisioner.errors import ConnectionLost
from provisioner.transcript import OUTPUT_KEPT, RecordingTransport, Transcript
from provisioner.transport.base import Session
from provisioner.transport.fake import FakeTransport


class Silent:
    """A session that says nothing."""


class SessionHost(FakeTransport):
    def open_session(self, command: Command) -> Session:
        return Silent()  # type: ignore[return-value]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "transcripts" / "run" / "gpu01.log"


Record = Callable[[FakeTransport], RecordingTransport]


@pytest.fixture
def record(path: Path) -> Iterator[Record]:
    transcript = Transcript(path, clock=lambda: 1_700_000_000)
    yield lambda host: RecordingTransport(host, transcript)
    transcript.close()


def test_commands_output_and_status_with_their_time(path: Path, record: Record) -> None:
    host = FakeTransport(lambda command: Result(command, 3, b"out\n\xff", b"err\n"))
    result = record(host).run(Command.of("apt-get", "a b", sudo=True))
    assert result.exit_code == 3
    assert path.read_text().splitlines() == [
        "2023-11-14T22:13:20Z $ sudo apt-get 'a b'",
        "2023-11-14T22:13:20Z   out",
        "2023-11-14T22:13:20Z   \N{REPLACEMENT CHARACTER}",
        "2023-11-14T22:13:20Z   err",
        "2023-11-14T22:13:20Z = 3",
    ]


def test_only_the_owner_may_read_it_whatever_the_umask(path: Path) -> None:
    previous = os.umask(0)
    try:
        Transcript(path).close()
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_standard_input_and_file_contents_are_not_in_it(path: Path, record: Record) -> None:
    transport = record(SessionHost())
    transport.run(Command.of("tee", stdin=b"hunter2 by stdin"))
    transport.put(b"hunter2 as a file", PurePosixPath("token"), mode=0o600)
    WriteFile(PurePosixPath("/etc/x"), "hunter2 as root").apply(transport)
    transport.open_session(Command.of("agent", stdin=b"hunter2"))
    text = path.read_text()
    assert "hunter2" not in text
    assert "tee" in text
    assert "token" in text
    assert "/etc/x" in text
    assert "session: agent" in text


def test_it_is_written_before_the_command_ends(path: Path, record: Record) -> None:
    def lost(command: Command) -> Result:
        assert "$ reboot" in path.read_text()
        raise ConnectionLost("the connection broke")

    with pytest.raises(ConnectionLost):
        record(FakeTransport(lost)).run(Command.of("reboot"))
    assert "the connection broke" in path.read_text()


def test_endless_output_is_cut_at_its_beginning(path: Path, record: Record) -> None:
    host = FakeTransport(lambda command: Result(command, 0, b"x" * 10 * OUTPUT_KEPT + b"end"))
    record(host).run(Command.of("yes"))
    assert path.stat().st_size < 2 * OUTPUT_KEPT
    assert "xend" in path.read_text()


def test_a_second_run_appends(path: Path) -> None:
    for word in ("first", "second"):
        transcript = Transcript(path)
        transcript.note(word)
        transcript.close()
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["first", "second"]


def test_logins_in_the_addresses_of_a_hosts_own_files_are_not_in_it(path: Path) -> None:
    told = b'"http-proxy": "http://alice:hunter2@proxy.example:3128", mail to a@b\n'
    host = FakeTransport(lambda command: Result(command, 0, told))
    transcript = Transcript(path)
    RecordingTransport(host, transcript).run(Command.of("cat", "/etc/docker/daemon.json"))
    transcript.close()
    text = path.read_text()
    assert "hunter2" not in text
    assert '"http://***@proxy.example:3128", mail to a@b' in text
