from __future__ import annotations

from contextlib import suppress

import pytest

from provisioner.command import Command, Result, Secret
from provisioner.containers.engine import ContainerInfo
from provisioner.containers.services import (
    Service,
    start_jupyter,
    start_tensorboard,
    tunnel_words,
)
from provisioner.errors import RigupError, UsageError
from provisioner.transport.fake import FakeTransport

BOX = ContainerInfo("torch", "rigup-ssh-1000-torch", "running", 22200, "ana", "none", "i")
PREPARED = b'{"IdentityProvider": {"token": "s3cret"}}'


class Inside:
    """A container whose services answer once started, or never."""

    def __init__(self, *, starts: bool = True) -> None:
        self.starts, self.started = starts, list[Command]()

    def __call__(self, command: Command) -> Result:
        if "--detach" in command.words:
            self.started.append(command)
        if "socket" in command.words[-2]:
            return Result(command, 0 if self.started and self.starts else 1)
        return Result(command, 0, b"port in use" if "tail" in command.words else PREPARED)


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


def test_the_tunnel_ends_on_loopback_at_both_ends() -> None:
    words = tunnel_words("lab01-torch", Service("jupyter", 8888, Secret("t")), 9000)
    assert words[words.index("-L") + 1] == "127.0.0.1:9000:127.0.0.1:8888"
    assert words[-2:] == ["--", "lab01-torch"]


@pytest.mark.parametrize("starts", [True, False])
def test_nothing_in_the_container_is_run_as_root(starts: bool) -> None:
    host = FakeTransport(Inside(starts=starts))
    with suppress(RigupError):
        start_jupyter(host, BOX, sleep=lambda _: None)
    users = {words[words.index("--user") + 1] for words in (c.words for c in host.commands)}
    assert users == {"ana"}
