"""The SSH transport against a real server: what it refuses, and what it says then."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ssh_server import SshServer, free_port, new_key, ssh_server

from inventory import Host
from provisioner import trust
from provisioner.command import Command
from provisioner.errors import (
    AuthError,
    ConnectError,
    ConnectionLost,
    HostKeyChanged,
    TransportError,
    UnknownHostKey,
)
from provisioner.transport import ssh
from provisioner.transport.ssh import SshTransport, scan_host_key
from provisioner.transport.target import Target, resolve

pytestmark = pytest.mark.e2e

Connect = Callable[..., SshTransport]


class TestOutput:
    def test_a_command_that_prints_without_end_is_given_up(self, connect: Connect) -> None:
        transport = connect()
        with pytest.raises(TransportError, match="printed more than 1048576 bytes"):
            transport.run(Command.of("yes", max_output_bytes=1 << 20, timeout_s=30))
        assert transport.run(Command.of("echo", "still there")).stdout == b"still there\n"

    def test_waiting_for_a_silent_command_takes_no_processor_time(self, connect: Connect) -> None:
        transport = connect()
        transport.run(Command.of("true"))
        before = time.process_time()
        result = transport.run(Command.sh("exec >&- 2>&-; sleep 2; exit 3"))
        assert result.exit_code == 3
        assert time.process_time() - before < 0.5

    def test_a_command_that_a_signal_ended_is_no_lost_connection(self, connect: Connect) -> None:
        result = connect().run(Command.sh("kill -9 $$"))
        assert not result.ok

    def test_a_link_that_breaks_before_root_is_no_refusal_of_sudo(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server's process for this link ends where sudo would be asking."""
        transport = connect()
        channel = transport._channel()
        really = channel.exec_command
        channel.exec_command = lambda line: really("kill -9 $PPID; sleep 5")
        monkeypatch.setattr(transport, "_channel", lambda: channel)
        with pytest.raises(ConnectionLost):
            transport.run(Command.of("true", sudo=True, timeout_s=20))


class TestHostKeys:
    def test_the_pinned_rsa_key_is_asked_for(
        self, server: SshServer, known_hosts: Path, connect: Connect
    ) -> None:
        known_hosts.write_text("")
        server.pin(known_hosts, "rsa")
        assert trust.offered_key(server.host()).is_pinned
        assert scan_host_key(server.host()) == server.host_key("rsa")
        assert connect().run(Command.of("true")).ok

    def test_any_of_several_pinned_types_will_do(
        self, server: SshServer, known_hosts: Path, connect: Connect
    ) -> None:
        ecdsa = known_hosts.parent / "ecdsa"
        new_key(ecdsa, "ecdsa")
        foreign = ecdsa.with_suffix(".pub").read_text()
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {foreign}")
        server.pin(known_hosts, "rsa")
        assert connect().run(Command.of("true")).ok

    def test_another_key_is_refused(self, server: SshServer, known_hosts: Path) -> None:
        new_key(known_hosts.parent / "other")
        other = (known_hosts.parent / "other.pub").read_text()
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}")
        with pytest.raises(HostKeyChanged):
            SshTransport(server.host()).run(Command.of("true"))
        with pytest.raises(HostKeyChanged):
            trust.offered_key(server.host())

    def test_a_host_that_says_nothing_is_given_up_and_its_socket_closed(
        self, known_hosts: Path
    ) -> None:
        before = transports()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = Host("box", "127.0.0.1", port=silent.getsockname()[1], connect_timeout_s=0.5)
            with pytest.raises(ConnectError, match="no answer in time"):
                scan_host_key(host)
            accepted, _ = silent.accept()
            with accepted:
                accepted.settimeout(5)
                while accepted.recv(4096):
                    pass
        wait_until(lambda: transports() <= before)


def transports() -> set[threading.Thread]:
    """Paramiko's threads, one for each connection."""
    return {one for one in threading.enumerate() if type(one).__name__ == "Transport"}


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An SSH agent of this test's own."""
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield path
        process.terminate()


@pytest.fixture
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def hold(key: Path, passphrase: str = "") -> None:
    """Put a key into the agent."""
    helper = key.with_name("askpass")
    helper.write_text(f"#!/bin/sh\necho {passphrase}\n")
    helper.chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True)


class TestKeys:
    @pytest.fixture
    def locked(self, server: SshServer, tmp_path: Path) -> Path:
        """A key with a passphrase that may log in."""
        key = tmp_path / "locked"
        shutil.copy(server.key, key)
        change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)]
        subprocess.run(change, check=True)
        return key

    def test_a_key_with_a_passphrase_works_through_the_agent(
        self, server: SshServer, locked: Path, agent: Path, connect: Connect
    ) -> None:
        hold(locked, "open sesame")
        assert connect(server.host(identity_file=locked)).run(Command.of("true")).ok

    def test_a_public_key_names_the_one_in_the_agent(
        self, server: SshServer, tmp_path: Path, agent: Path, connect: Connect
    ) -> None:
        hold(shutil.copy(server.key, tmp_path / "key"))
        public = server.key.with_suffix(".pub")
        assert connect(server.host(identity_file=public)).run(Command.of("true")).ok

    def test_the_agents_other_keys_are_not_offered(
        self, server: SshServer, tmp_path: Path, agent: Path, connect: Connect
    ) -> None:
        hold(shutil.copy(server.key, tmp_path / "key"))
        new_key(tmp_path / "named")
        with pytest.raises(AuthError) as raised:
            connect(server.host(identity_file=tmp_path / "named")).run(Command.of("true"))
        assert f"accepted none of these keys: {tmp_path}/named" in raised.value.message
        assert "SSH agent" not in raised.value.message

    @pytest.mark.usefixtures("no_agent")
    def test_what_became_of_each_key_is_said(
        self, server: SshServer, locked: Path, tmp_path: Path, connect: Connect
    ) -> None:
        cases = {
            locked: "has a passphrase; not in the SSH agent",
            tmp_path / "missing": "No such file or directory",
            server.key.with_suffix(".pub"): "no private key that can be read",
        }
        for path, reason in cases.items():
            with pytest.raises(AuthError) as raised:
                connect(server.host(identity_file=path)).run(Command.of("true"))
            assert f"{path} ({reason})" in raised.value.message


class TestProxyCommand:
    @pytest.fixture
    def through(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Every host is reached through this ProxyCommand."""

        def use(command: str) -> None:
            def with_proxy(host: Host) -> Target:
                return replace(resolve(host), proxy_command=command)

            monkeypatch.setattr(ssh, "resolve", with_proxy)

        return use

    def test_it_carries_the_connection_and_is_reaped(
        self, server: SshServer, connect: Connect, through: Callable[[str], None]
    ) -> None:
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        place = f"127.0.0.1:{server.port}"
        through(f"ssh -i {server.key} {options} -W {place} ssh://root@{place}")
        before = children()
        transport = connect()
        data = os.urandom(1 << 20)
        assert transport.run(Command.of("cat", stdin=data)).stdout == data
        transport.close()
        assert children() == before

    def test_a_missing_program_is_named(
        self, connect: Connect, through: Callable[[str], None]
    ) -> None:
        before = children()
        through("rigup-no-such-program 127.0.0.1")
        with pytest.raises(ConnectError, match="rigup-no-such-program") as raised:
            connect().run(Command.of("true"))
        assert raised.value.remedy
        assert children() == before


def children() -> str:
    """The processes that this one started, ended ones too."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


class TestJumps:
    @pytest.fixture
    def gateway(
        self, tmp_path_factory: pytest.TempPathFactory, server: SshServer
    ) -> Iterator[SshServer]:
        """A second server, that takes the first one's key."""
        directory = tmp_path_factory.mktemp("gateway")
        with ssh_server(directory) as running:
            shutil.copy(server.directory / "authorized_keys", directory / "authorized_keys")
            yield running

    def behind(self, server: SshServer, gateway: SshServer, **settings: object) -> Host:
        return server.host(jump=f"root@127.0.0.1:{gateway.port}", **settings)

    def test_a_dead_host_behind_a_jump_host_is_named(
        self, server: SshServer, gateway: SshServer, known_hosts: Path, connect: Connect
    ) -> None:
        gateway.pin(known_hosts)
        port = free_port()
        with pytest.raises(ConnectError) as raised:
            connect(self.behind(server, gateway, port=port)).run(Command.of("true"))
        assert raised.value.host == "box"
        assert f"cannot connect to 127.0.0.1 port {port} through 127.0.0.1" in raised.value.message
        assert connect(self.behind(server, gateway)).run(Command.of("true")).ok

    def test_an_unknown_jump_host_is_trusted_through_the_inventorys_host(
        self, server: SshServer, gateway: SshServer, known_hosts: Path, connect: Connect
    ) -> None:
        known_hosts.write_text("")
        host = self.behind(server, gateway)
        with pytest.raises(UnknownHostKey) as raised:
            connect(host).run(Command.of("true"))
        assert "invoke trust --host box" in str(raised.value.remedy)
        seen: list[tuple[str, bool]] = []

        def accept(offer: trust.Offer) -> None:
            seen.append((offer.known_hosts_name, offer.is_pinned))
            trust.pin(offer.known_hosts_name, [offer.key])

        [(_, _, error)] = trust.settle([host], accept)
        assert error is None
        assert seen == [
            (f"[127.0.0.1]:{gateway.port}", False),
            (f"[127.0.0.1]:{server.port}", False),
        ]
        assert connect(host).run(Command.of("true")).ok
