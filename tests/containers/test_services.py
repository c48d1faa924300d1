from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from provisioner.command import Command, Result
from provisioner.containers.engine import ContainerInfo
from provisioner.containers.services import (
    IS_OURS,
    SERVE,
    SERVES,
    STOP,
    start_jupyter,
    start_tensorboard,
)
from provisioner.errors import RigupError, UsageError
from provisioner.transport.fake import FakeTransport

BOX = ContainerInfo("torch", "rigup-ssh-1000-torch", "running", 22200, "ana", "none", "i")
PREPARED = b'{"IdentityProvider": {"token": "s3cret-token-of-rigup"}}'


class Inside:
    """A container whose services answer once started, or never."""

    def __init__(self, *, starts: bool = True) -> None:
        self.starts, self.started = starts, list[Command]()
        self.stopped: list[Command] = []
        self.knows_words = True

    def __call__(self, command: Command) -> Result:
        if "--detach" in command.words:
            self.started.append(command)
        if SERVES in command.words:
            asked = command.words[command.words.index(SERVES) + 3 :]
            words = self.started[-1].words if self.started else ()
            recorded = words[words.index(SERVE) + 3 :] if words else ()
            return Result(command, 0 if self.knows_words and asked == recorded else 1)
        if IS_OURS in command.words:
            return Result(command, 0 if self.knows_words else 1)
        if STOP in command.words:
            self.stopped.append(command)
            return Result(command, 0 if self.knows_words else 1)
        if "socket" in command.words[-2]:
            return Result(command, 0 if self.started and self.starts else 1)
        return Result(command, 0, b"port in use" if "tail" in command.words else PREPARED)


@pytest.mark.parametrize(
    "prepared",
    [
        b'{"IdentityProvider": {"token": "\\u001b]52;c;eA==\\u0007"}}',
        b'{"IdentityProvider": {"token": "a b"}}',
        b'{"IdentityProvider": {"token": ["x"]}}',
        b'{"IdentityProvider": {"token": ""}}',
        b'{"IdentityProvider": []}',
        b"[]",
        b"[" * 10_000,
        b"welcome",
    ],
    ids=lambda prepared: repr(prepared[:40]),
)
def test_what_cannot_be_a_token_is_refused(prepared: bytes) -> None:
    """It is printed, as part of an address."""
    transport = FakeTransport(lambda command: Result(command, 0, prepared))
    with pytest.raises(RigupError, match="token") as raised:
        start_jupyter(transport, BOX)
    assert raised.value.host == transport.host_name


def test_the_token_is_in_no_argument_and_in_no_repr() -> None:
    inside = Inside()
    host = FakeTransport(inside)
    service = start_jupyter(host, BOX, sleep=lambda _: None)
    assert "s3cret" in service.url(9000)
    assert "s3cret" not in repr(service)
    assert not any("s3cret" in str(command) for command in host.commands)


def test_a_running_service_is_not_started_twice() -> None:
    inside = Inside()
    for _ in range(2):
        start_tensorboard(FakeTransport(inside), BOX, "/runs", sleep=lambda _: None)
    assert len(inside.started) == 1
    assert inside.started[0].words[-6:-1] == ("--logdir", "/runs", "--host", "127.0.0.1", "--port")


def test_one_that_does_not_start_shows_its_log() -> None:
    with pytest.raises(RigupError, match="port in use"):
        start_tensorboard(FakeTransport(Inside(starts=False)), BOX, "/runs", sleep=lambda _: None)


def test_a_relative_log_dir_is_refused() -> None:
    with pytest.raises(UsageError, match="absolute"):
        start_tensorboard(FakeTransport(Inside()), BOX, "--reuse_port=true")


@pytest.mark.parametrize("starts", [True, False])
def test_nothing_in_the_container_is_run_as_root(starts: bool) -> None:
    host = FakeTransport(Inside(starts=starts))
    with suppress(RigupError):
        start_jupyter(host, BOX, sleep=lambda _: None)
    users = {words[words.index("--user") + 1] for words in (c.words for c in host.commands)}
    assert users == {"ana"}


def test_another_log_dir_takes_the_place_of_the_first() -> None:
    inside = Inside()
    for log_dir in ("/runs/a", "/runs/a", "/runs/b"):
        start_tensorboard(FakeTransport(inside), BOX, log_dir, sleep=lambda _: None)
    assert [command.words[-5] for command in inside.started] == ["/runs/a", "/runs/b"]
    assert len(inside.stopped) == 1


def test_a_service_that_rigup_did_not_start_is_named() -> None:
    inside = Inside()
    start_tensorboard(FakeTransport(inside), BOX, "/runs/a", sleep=lambda _: None)
    inside.knows_words = False
    with pytest.raises(RigupError, match="did not start") as caught:
        start_tensorboard(FakeTransport(inside), BOX, "/runs/b", sleep=lambda _: None)
    assert "pkill tensorboard" in str(caught.value.remedy)


class AtHome:
    """The services' scripts as a shell runs them, in a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, script: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["sh", "-c", script, "sh", *words],
            env={**os.environ, "HOME": str(self.home)},
            timeout=30,
            capture_output=True,
        )

    @contextmanager
    def serving(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "HOME": str(self.home)}
        line = ["sh", "-c", SERVE, "sh", "thing", *words]
        with subprocess.Popen(line, env=environment) as process:
            deadline = time.monotonic() + 10
            while self(SERVES, "thing", *words).returncode and time.monotonic() < deadline:
                time.sleep(0.02)
            yield process
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="containers have Linux's /proc")
def test_the_scripts_know_the_service_that_they_started(tmp_path: Path) -> None:
    at_home = AtHome(tmp_path)
    with at_home.serving("sleep", "60") as service:
        assert at_home(SERVES, "thing", "sleep", "60").returncode == 0
        assert at_home(SERVES, "thing", "sleep", "61").returncode == 1
        assert at_home(SERVES, "other", "sleep", "60").returncode == 1
        assert service.poll() is None
        assert at_home(STOP, "thing").returncode == 0
        assert service.wait(10) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="containers have Linux's /proc")
def test_a_program_that_got_the_number_of_a_service_is_not_ended(tmp_path: Path) -> None:
    """The container started again: the numbers of its processes begin from 1."""
    at_home = AtHome(tmp_path)
    with at_home.serving("sleep", "60") as service:
        record = tmp_path / ".rigup-services" / "thing.pid"
        number, started = record.read_text().split()
        assert int(number) == service.pid
        record.write_text(f"{number} {int(started) - 1}\n")
        assert at_home(SERVES, "thing", "sleep", "60").returncode == 1
        assert at_home(STOP, "thing").returncode == 1
        assert service.poll() is None
