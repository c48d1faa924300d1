"""A throwaway OpenSSH server on a free loopback port, and throwaway users to log in as.

Needs root and ``sshd``; everything it makes lies in one temporary directory or is undone.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inventory import Host

SETTINGS = """\
ListenAddress 127.0.0.1:{port}
PidFile {directory}/pid
AuthorizedKeysFile none
AuthorizedKeysCommand /bin/cat {directory}/authorized_keys
AuthorizedKeysCommandUser root
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxSessions 50
"""
STARTS_WITHIN_S = 10


@dataclass
class SshServer:
    """A running server. ``key`` may log in as anybody."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        return self.directory / "client"

    def host_key(self, kind: str = "ed25519") -> tuple[str, str]:
        """Type and base64 text."""
        name, text, *_ = (self.directory / f"host_{kind}.pub").read_text().split()
        return name, text

    def host(self, name: str = "box", **settings: object) -> Host:
        defaults = {"user": "root", "port": self.port, "identity_file": self.key}
        return Host(name, "127.0.0.1", **{**defaults, **settings})  # type: ignore[arg-type]

    def pin(self, file: Path, kind: str = "ed25519") -> None:
        with file.open("a") as known:
            known.write(f"[127.0.0.1]:{self.port} {' '.join(self.host_key(kind))}\n")


@contextlib.contextmanager
def ssh_server(directory: Path, host_keys: Sequence[str] = ("ed25519",)) -> Iterator[SshServer]:
    for kind in host_keys:
        new_key(directory / f"host_{kind}", kind)
    new_key(directory / "client")
    shutil.copy(directory / "client.pub", directory / "authorized_keys")
    port = free_port()
    text = SETTINGS.format(port=port, directory=directory)
    text += "".join(f"HostKey {directory}/host_{kind}\n" for kind in host_keys)
    (directory / "sshd_config").write_text(text)
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(directory / "sshd_config")], stderr=log
        )
    try:
        _wait_for(port)
        yield SshServer(directory, port, process)
    finally:
        process.terminate()
        process.wait()


def new_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)]
    subprocess.run(words, check=True)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def user(
    name: str, *, shell: Sequence[str], password: str, sudo: str | None = None
) -> Iterator[str]:
    """A user with a home directory. ``shell`` is a program with options; ``sudo`` is the user's
    right, such as ``ALL`` or ``NOPASSWD: ALL``."""
    rights = Path("/etc/sudoers.d") / name
    login_shell = Path("/home") / name / "login-shell"
    words = ["--create-home", "--home-dir", str(login_shell.parent), "--shell", str(login_shell)]
    subprocess.run(["useradd", *words, name], check=True)
    try:
        login_shell.write_text(f'#!/bin/sh\nexec {shlex.join(shell)} "$@"\n')
        login_shell.chmod(0o755)
        subprocess.run(["chpasswd"], input=f"{name}:{password}".encode(), check=True)
        if sudo is not None:
            rights.write_text(f"{name} ALL=(ALL) {sudo}\n")
        yield name
    finally:
        rights.unlink(missing_ok=True)
        subprocess.run(["userdel", "--remove", "--force", name], check=True, capture_output=True)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
