"""The program that takes an image on the host, run for real beside a stand-in for Docker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from provisioner.containers import receive_image
from provisioner.containers.receive_image import END_MARK

PROGRAM = Path(receive_image.__file__)
LOAD = """\
#!/bin/sh
# Keeps what it is given in "partial", and only where its input ended in "loaded".
[ "$1 $2" = "load --quiet" ] || exit 9
cd "$STATE" || exit 9
if [ -e gives-up ]; then head -c 1 >/dev/null; echo "no space left on device" >&2; exit 1; fi
while [ -e takes-nothing ]; do sleep 0.02; done
cat >partial
while [ -e slow ]; do sleep 0.02; done
mv partial loaded
echo "Loaded image: team/image:1"
"""


class Receiver:
    """The running program; ``say`` sends frames."""

    def __init__(self, state: Path, **limits: float) -> None:
        """``limits``: by their names in the program."""
        self.progress = state / "arriving"
        program = PROGRAM.read_text()
        for name, seconds in limits.items():
            program, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {seconds}", program)
            assert count == 1
        environment = {"PATH": f"{state}:{os.environ['PATH']}", "STATE": str(state)}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", program, str(self.progress)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def say(self, *frames: tuple[bytes, int]) -> None:
        assert self.process.stdin is not None
        for data, count in frames:
            head = len(data).to_bytes(4, "big") + count.to_bytes(8, "big")
            self.process.stdin.write(head + data)
        self.process.stdin.flush()

    def end(self) -> str:
        """Close its input; what it printed until it ended."""
        out, err = self.process.communicate(timeout=30)
        return (out + err).decode()


@contextmanager
def running(state: Path, **limits: float) -> Iterator[Receiver]:
    (state / "docker").write_text(LOAD)
    (state / "docker").chmod(0o755)
    one = Receiver(state, **limits)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with running(tmp_path) as one:
        yield one


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_frames_become_one_stream(receiver: Receiver, tmp_path: Path) -> None:
    parts = [os.urandom(300_000), b"x", os.urandom(70_000)]
    receiver.say((parts[0], 700_000), (parts[1], 700_001), (parts[2], 900_000), (b"", 900_000))
    said = receiver.end()
    assert said.endswith(f"{END_MARK}0\n")
    assert "Loaded image: team/image:1" in said
    assert (tmp_path / "loaded").read_bytes() == b"".join(parts)


def test_the_host_sees_how_much_has_arrived(receiver: Receiver) -> None:
    until(receiver.progress.exists)
    assert receiver.progress.read_text() == "0"
    receiver.say((b"some", 1_234_567))
    until(lambda: receiver.progress.read_text() == "1234567")
    receiver.say((b"", 7_654_321))
    receiver.end()
    assert receiver.progress.read_text() == "7654321"
    assert list(receiver.progress.parent.glob("arriving.*")) == []


@pytest.mark.parametrize("sent", [b"", b"\0\0", (9).to_bytes(4, "big") + bytes(8) + b"half"])
def test_a_link_that_breaks_before_the_end_loads_nothing(
    receiver: Receiver, tmp_path: Path, sent: bytes
) -> None:
    receiver.say((b"beginning", 9))
    assert receiver.process.stdin is not None
    receiver.process.stdin.write(sent)
    said = receiver.end()
    assert receiver.process.returncode == 1
    assert END_MARK not in said
    assert not (tmp_path / "loaded").exists()


def test_after_the_last_byte_the_load_ends_without_a_link(
    receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    receiver.say((b"all of it", 9), (b"", 9))
    until(lambda: receiver.progress.exists() and receiver.progress.read_text() == "9")
    process = receiver.process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    os.utime(receiver.progress, (0, 0))
    until(lambda: receiver.progress.stat().st_mtime > 0)  # it says that it is alive
    (tmp_path / "slow").unlink()
    assert process.wait(30) == 0
    assert (tmp_path / "loaded").read_bytes() == b"all of it"


def test_the_host_sees_that_a_sender_with_nothing_to_send_is_there(tmp_path: Path) -> None:
    with running(tmp_path, ALIVE_S=0.05) as receiver:
        until(receiver.progress.exists)
        for sent in ((), ((b"some", 4),)):
            receiver.say(*sent)
            os.utime(receiver.progress, (0, 0))
            until(lambda: receiver.progress.stat().st_mtime > 0)


def test_a_link_without_a_word_counts_as_broken(tmp_path: Path) -> None:
    with running(tmp_path, ALIVE_S=0.05, SILENCE_S=0.3) as receiver:
        receiver.say((b"some", 4))
        assert receiver.process.wait(30) == 1
    assert not (tmp_path / "loaded").exists()


def test_a_load_that_hangs_ends_without_a_link(tmp_path: Path) -> None:
    """Else the job on the host would wait for it for ever."""
    (tmp_path / "slow").touch()
    with running(tmp_path, ALIVE_S=0.05, LOAD_LIMIT_S=0.3) as receiver:
        receiver.say((b"all of it", 9), (b"", 9))
        said = receiver.end()
    assert "did not end within 0.3 s" in said
    assert said.endswith(f"{END_MARK}124\n")
    assert not (tmp_path / "loaded").exists()


def test_docker_that_takes_nothing_ends_it_too(tmp_path: Path) -> None:
    (tmp_path / "takes-nothing").touch()
    with running(tmp_path, SILENCE_S=1) as receiver:
        receiver.say((bytes(1 << 20), 1 << 20))
        assert receiver.process.wait(30) == 1


def test_a_host_without_docker_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    receiver = Receiver(tmp_path)
    said = receiver.end()
    assert receiver.process.returncode == 0
    assert "docker" in said
    assert said.endswith(f"{END_MARK}127\n")
    assert "Traceback" not in said


def test_a_hangup_while_the_link_lives_ends_nothing(receiver: Receiver, tmp_path: Path) -> None:
    receiver.say((b"first", 5))
    until(receiver.progress.exists)
    receiver.process.send_signal(signal.SIGHUP)
    receiver.say((b"second", 11), (b"", 11))
    assert receiver.end().endswith(f"{END_MARK}0\n")
    assert (tmp_path / "loaded").read_bytes() == b"firstsecond"


def test_what_docker_says_when_it_gives_up_is_passed_on(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "gives-up").touch()
    receiver.say((bytes(1 << 20), 1 << 20))
    said = receiver.end()
    assert "no space left on device" in said
    assert said.endswith(f"{END_MARK}1\n")


def test_progress_that_cannot_be_written_stops_nothing(receiver: Receiver, tmp_path: Path) -> None:
    receiver.progress.mkdir()
    receiver.say((b"data", 4), (b"", 4))
    assert receiver.end().endswith(f"{END_MARK}0\n")
    assert (tmp_path / "loaded").exists()
    assert list(tmp_path.glob("arriving.*")) == []
