"""A host that stops taking anything from the network, a jump host that passes nothing on, an SSH
agent that says nothing: Paramiko has no limit of its own for these."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from silent_server import SilentServer, silent_server

from inventory import Host
from provisioner.command import Command
from provisioner.errors import AuthError, CommandTimeout, ConnectError, RigupError
from provisioner.transport import ssh, ssh_auth, ssh_socket
from provisioner.transport.ssh import SshTransport
from provisioner.transport.target import resolve

WITHIN_S = 40.0
MUCH = b"x" * (32 << 20)
"""More than the sockets on the way take from somebody who writes."""

Serve = Callable[..., SilentServer]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """``serve(stage)``: a server whose key is pinned. Dead links are not noticed by the kernel."""
    running = []
    counter = itertools.count()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(ssh_socket, "DEAD_LINK_S", 3600)

    def start(stage: str) -> SilentServer:
        directory = tmp_path / f"server{next(counter)}"
        directory.mkdir()
        context = silent_server(directory, stage)
        running.append(context)
        server = context.__enter__()
        server.pin(tmp_path / "home" / "known_hosts")
        return server

    yield start
    for context in running:
        context.__exit__(None, None, None)


def ends(work: Callable[[], object], kind: type[RigupError]) -> RigupError:
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        work()
    assert time.monotonic() - started < WITHIN_S
    assert caught.value.remedy
    return caught.value


def closes(transport: SshTransport) -> None:
    started = time.monotonic()
    transport.close()
    assert time.monotonic() - started < WITHIN_S


def test_a_host_that_takes_nothing_from_the_network_ends_an_upload(serve: Serve) -> None:
    transport = SshTransport(serve("network").host())
    error = ends(lambda: transport.run(Command.of("cat", stdin=MUCH)), CommandTimeout)
    assert "stopped reading" in error.message
    closes(transport)


def test_a_host_that_takes_nothing_from_the_network_ends_a_session(serve: Serve) -> None:
    transport = SshTransport(serve("network").host())
    session = transport.open_session(Command.of("cat"))
    ends(lambda: session.write(MUCH), CommandTimeout)
    started = time.monotonic()
    session.close()
    assert time.monotonic() - started < WITHIN_S
    closes(transport)


def test_the_connection_is_of_use_again_after_a_stall(serve: Serve) -> None:
    transport = SshTransport(serve("network").host())
    for _ in range(2):
        ends(lambda: transport.run(Command.of("cat", stdin=MUCH)), CommandTimeout)
    closes(transport)


@pytest.mark.parametrize("stage", ["tunnel", "tunnel-network"])
def test_a_jump_host_that_passes_nothing_on_ends(
    serve: Serve, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the tunnel, and takes nothing from it; or nothing from the network either."""
    jump = replace(serve(stage).host(), name="jump")
    monkeypatch.setattr(ssh, "resolve", _directly)
    transport = SshTransport(
        Host("silent", "192.0.2.9", via=jump, jump="jump", connect_timeout_s=1.0)
    )
    ends(lambda: transport.run(Command.of("true", timeout_s=1.0)), RigupError)
    closes(transport)


def test_an_upload_through_a_jump_host_that_stalls_ends(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jump host works until the host behind it is logged in to, then takes nothing."""
    jump = replace(serve("relay").host(connect_timeout_s=8.0), name="jump")
    monkeypatch.setattr(ssh, "resolve", _directly)
    behind = serve("network").host(connect_timeout_s=8.0)
    transport = SshTransport(replace(behind, via=jump, jump="jump"))
    ends(lambda: transport.run(Command.of("cat", stdin=MUCH, timeout_s=2.0)), CommandTimeout)
    closes(transport)


def _directly(host: Host) -> object:
    """As ``resolve`` without the SSH configuration."""
    return resolve(host, read_options=lambda _: {})


def test_an_ssh_agent_that_says_nothing_is_left_out(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        host = replace(serve("output").host(), identity_file=tmp_path / "none")
        error = ends(lambda: SshTransport(host).run(Command.of("true")), AuthError)
    assert "the SSH agent (it does not answer)" in error.message


def test_a_login_that_is_not_answered_is_tried_with_one_key_only(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [paramiko.ECDSAKey.generate() for _ in range(30)]
    monkeypatch.setattr(
        ssh_auth.KeysOnly, "_from_file", lambda self, path, is_held: _named(self, keys)
    )
    error = ends(lambda: SshTransport(serve("login").host()).run(Command.of("true")), RigupError)
    assert "no answer in time" in error.message or isinstance(error, CommandTimeout)


def _named(keys_only: ssh_auth.KeysOnly, keys: list[paramiko.ECDSAKey]) -> Iterator[paramiko.PKey]:
    for number, key in enumerate(keys):
        keys_only._tried.append(f"key{number}")
        yield key


@pytest.mark.parametrize("stage", ["drip", "lines", "stream"])
def test_a_host_that_talks_without_end_before_its_banner_is_left(serve: Serve, stage: str) -> None:
    transport = SshTransport(serve(stage).host())
    ends(lambda: transport.run(Command.of("true")), ConnectError)
    closes(transport)
    deadline = time.monotonic() + WITHIN_S
    while any(type(one).__name__ == "Transport" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_names_and_all_their_addresses_share_one_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    class Deaf(socket.socket):
        def connect(self, place: object) -> None:
            waits.append(self.gettimeout() or 0.0)
            raise TimeoutError

    place = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 22))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place] * 8)
    monkeypatch.setattr(ssh_socket.socket, "socket", Deaf)
    with pytest.raises(TimeoutError):
        ssh_socket.open_tcp("many.example", 22, 10.0)
    assert len(waits) == 8
    assert waits[0] < 1.5


def test_a_resolver_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait(60))
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        ssh_socket.open_tcp("slow.example", 22, 0.2)
    asked.set()
    assert time.monotonic() - started < WITHIN_S


def test_a_proxy_command_that_ignores_everything_ends(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    line = (
        f"sh -c 'trap \"\" TERM HUP; echo $$ > {pid}; exec 2>/dev/null; while :; do sleep 1; done'"
    )
    monkeypatch.setattr(ssh, "resolve", lambda host: replace(resolve(host), proxy_command=line))
    transport = SshTransport(serve("output").host())
    ends(lambda: transport.run(Command.of("true")), ConnectError)
    closes(transport)
    assert not os.path.exists(f"/proc/{pid.read_text().strip()}")
