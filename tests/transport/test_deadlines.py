"""A host that falls silent, at every step of a connection: each wait ends by its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from silent_server import STAGES, SilentServer, silent_server

from inventory import Host
from provisioner.agent.connect import open_agent
from provisioner.command import Command
from provisioner.errors import CommandTimeout, ConnectError, TransportError
from provisioner.jobs import on_each
from provisioner.transport.ssh import SshTransport, scan_host_key
from provisioner.transport.ssh_errors import Translated
from provisioner.transport.target import resolve

WITHIN_S = 20.0
"""Far more than the deadlines of one second, far less than for ever: the machine may be busy."""

Serve = Callable[[str], SilentServer]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """``serve(stage)``: a server whose key is pinned."""
    running = []
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("RIGUP_HOME", str(home))

    def start(stage: str) -> SilentServer:
        context = silent_server(tmp_path, stage)
        server = context.__enter__()
        running.append(context)
        server.pin(home / "known_hosts")
        return server

    yield start
    for context in running:
        context.__exit__(None, None, None)


def _ends(work: Callable[[], object]) -> TransportError:
    started = time.monotonic()
    with pytest.raises(TransportError) as caught:
        work()
    assert time.monotonic() - started < WITHIN_S
    assert caught.value.host == "silent"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("stage", STAGES)
def test_a_command_ends(serve: Serve, stage: str) -> None:
    transport = SshTransport(serve(stage).host())
    stdin = b"x" * (8 << 20) if stage == "input" else None
    error = _ends(lambda: transport.run(Command.of("cat", stdin=stdin, timeout_s=1.0)))
    connecting = stage in ("banner", "key-exchange")
    assert isinstance(error, ConnectError if connecting else TransportError)
    transport.close()


@pytest.mark.parametrize("stage", STAGES)
def test_reaching_the_agent_ends(serve: Serve, stage: str) -> None:
    transport = SshTransport(serve(stage).host())
    _ends(lambda: open_agent(transport, call_timeout_s=1.0))
    transport.close()


@pytest.mark.parametrize("stage", ["banner", "key-exchange"])
def test_looking_at_the_host_key_ends(serve: Serve, stage: str) -> None:
    host = serve(stage).host()
    _ends(lambda: scan_host_key(host))


def test_sending_to_a_program_that_stopped_reading_ends(serve: Serve) -> None:
    transport = SshTransport(serve("input").host())
    session = transport.open_session(Command.of("cat"))
    error = _ends(lambda: session.write(b"x" * (8 << 20)))
    assert isinstance(error, CommandTimeout)
    session.close()
    transport.close()


def test_a_silent_host_is_one_hosts_error(serve: Serve) -> None:
    silent = serve("exec").host()
    honest = replace(silent, name="honest")

    def work(host: Host) -> str:
        return "done" if host is honest else SshTransport(host).run(Command.of("true")).text

    results = on_each([silent, honest], work)
    assert results[1][1] == "done"
    assert isinstance(results[0][2], CommandTimeout)


@pytest.mark.parametrize(
    ("cause", "said"), [(TimeoutError(), "no answer in time"), (EOFError(), "it hung up")]
)
def test_a_banner_that_does_not_come_is_said_plainly(cause: Exception, said: str) -> None:
    host = Host("silent", "192.0.2.1")
    target = resolve(host, read_options=lambda _: {})
    error = paramiko.SSHException("Error reading SSH protocol banner")
    error.__context__ = cause
    with pytest.raises(ConnectError, match=said), Translated("silent", target):
        raise error
