"""Real sudo behind a real SSH server, for login shells that talk too much.

What must never happen: the password becomes input or output of the command.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ssh_server import SshServer, user

from inventory import Host
from provisioner.command import Command
from provisioner.errors import SudoError
from provisioner.transport.ssh import SshTransport

pytestmark = pytest.mark.e2e

Connect = Callable[..., SshTransport]
PASSWORD = "correct horse $HOME"
SHELLS = ("sh", "bash", "bash -x", "zsh -x", "fish", "tcsh", "tcsh -x")
RIGHTS = {"password": "ALL", "free": "NOPASSWD: ALL"}

Case = tuple[Host, str]


@pytest.fixture(scope="module", params=list(itertools.product(SHELLS, RIGHTS)), ids="-".join)
def case(request: pytest.FixtureRequest, server: SshServer) -> Iterator[Case]:
    """A host whose login user has the shell and may use sudo: with a password, or without."""
    words, right = request.param
    program, *options = words.split()
    found = shutil.which(program)
    if found is None or shutil.which("sudo") is None:
        pytest.skip(f"needs {program} and sudo")
    name = f"rigup-{SHELLS.index(words)}-{right}"
    with user(name, shell=(found, *options), password=PASSWORD, sudo=RIGHTS[right]) as login:
        yield server.host(user=login), right


def test_the_command_gets_its_own_input_and_nothing_else(case: Case, connect: Connect) -> None:
    host, _ = case
    command = Command.sh("id -u; cat\n# it's !\\\\", sudo=True, stdin=b"own input\n", timeout_s=20)
    result = connect(host, PASSWORD).run(command)
    assert result.stdout == b"0\nown input\n"
    assert PASSWORD.encode() not in result.stderr


def test_a_wrong_password_is_said_to_be_wrong(case: Case, connect: Connect) -> None:
    host, right = case
    transport = connect(host, "a wrong guess")
    command = Command.of("cat", sudo=True, stdin=b"own input\n", timeout_s=20)
    if right == "free":
        assert transport.run(command).stdout == b"own input\n"
        return
    with pytest.raises(SudoError, match="the sudo password is wrong"):
        transport.run(command)


def test_without_a_password_sudo_is_asked_all_the_same(case: Case, connect: Connect) -> None:
    host, right = case
    command = Command.of("echo", "done", sudo=True, timeout_s=20)
    if right == "free":
        assert connect(host).run(command).stdout == b"done\n"
        return
    with pytest.raises(SudoError, match="none was given"):
        connect(host).run(command)


def test_a_user_without_rights_is_told_so(server: SshServer, connect: Connect) -> None:
    with user("rigup-plain", shell=("/bin/sh",), password=PASSWORD) as name:
        transport = connect(server.host(user=name), PASSWORD)
        with pytest.raises(SudoError, match="may not use sudo"):
            transport.run(Command.of("true", sudo=True, timeout_s=20))


def test_the_server_log_is_free_of_the_password(server: SshServer) -> None:
    assert PASSWORD not in Path(server.directory / "log").read_text("utf-8", "replace")
