"""One throwaway SSH server for the end-to-end tests of the transport."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ssh_server import SshServer, ssh_server

from inventory import Host
from provisioner.command import Secret
from provisioner.transport.ssh import SshTransport

Connect = Callable[..., SshTransport]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if shutil.which("sshd") is None and not Path("/usr/sbin/sshd").exists():
        pytest.skip("needs an OpenSSH server (apt-get install openssh-server)")
    with ssh_server(tmp_path_factory.mktemp("sshd"), ("ed25519", "rsa")) as running:
        yield running


@pytest.fixture
def known_hosts(server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of rigup's own in which the server's key is pinned."""
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / "known_hosts"
    server.pin(file)
    return file


@pytest.fixture
def connect(server: SshServer, known_hosts: Path) -> Iterator[Connect]:
    """``connect(host, password)``: a transport that is closed after the test."""
    opened: list[SshTransport] = []

    def open_one(host: Host | None = None, password: str | None = None) -> SshTransport:
        secret = None if password is None else Secret(password)
        opened.append(SshTransport(host or server.host(), sudo_password=secret))
        return opened[-1]

    yield open_one
    for transport in opened:
        transport.close()
