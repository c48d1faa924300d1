"""An SSH server on loopback that goes silent at a chosen moment, or stops reading."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
from ssh_server import new_key

from inventory import Host

STAGES = ("banner", "key-exchange", "login", "channel", "exec", "output", "input")
"""Where it falls silent: it accepts the TCP connection and sends nothing; it sends its banner and
nothing more; it never answers the login, the channel, the command; it starts the command, which
says nothing; the command reads nothing that it is sent."""


class _Server(paramiko.ServerInterface):
    def __init__(self, stage: str, end: threading.Event) -> None:
        self._stage = stage
        self._end = end

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._fall_silent("login")
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._fall_silent("channel")
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._fall_silent("exec")
        return True

    def _fall_silent(self, stage: str) -> None:
        if self._stage == stage:
            self._end.wait()


class SilentServer:
    def __init__(self, directory: Path, stage: str) -> None:
        for name in ("host_key", "client"):
            new_key(directory / name)
        self._stage = stage
        self._directory = directory
        self._end = threading.Event()
        self._held: list[object] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def host(self, **settings: object) -> Host:
        found = {"user": "ann", "port": self.port, "identity_file": self._directory / "client"}
        limits = {"connect_timeout_s": 1.0, "command_timeout_s": 1.0}
        return Host("silent", "127.0.0.1", **{**found, **limits, **settings})  # type: ignore[arg-type]

    def pin(self, file: Path) -> None:
        kind, text, *_ = (self._directory / "host_key.pub").read_text().split()
        with file.open("a") as known:
            known.write(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    def close(self) -> None:
        self._end.set()
        self._listener.close()
        for held in self._held:
            held.close()  # type: ignore[attr-defined]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._held.append(sock)
                self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        if self._stage == "banner":
            return
        if self._stage == "key-exchange":
            sock.sendall(b"SSH-2.0-silent\r\n")
            return
        link = paramiko.Transport(sock)
        self._held.append(link)
        link.add_server_key(paramiko.Ed25519Key(filename=str(self._directory / "host_key")))
        with contextlib.suppress(paramiko.SSHException, EOFError):
            link.start_server(threading.Event(), _Server(self._stage, self._end))


@contextlib.contextmanager
def silent_server(directory: Path, stage: str) -> Iterator[SilentServer]:
    server = SilentServer(directory, stage)
    try:
        yield server
    finally:
        server.close()
