"""An SSH server on loopback that goes silent at a chosen moment, or stops reading."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
from ssh_server import new_key

from inventory import Host

STAGES = ("banner", "key-exchange", "login", "channel", "exec", "output", "input")
"""Where it falls silent: it accepts the TCP connection and sends nothing; it sends its banner and
nothing more; it never answers the login, the channel, the command; it starts the command, which
says nothing; the command reads nothing that it is sent."""

TALKERS = {"drip": (b"x", 0.05), "lines": (b"hello\r\n", 0.05), "stream": (b"x" * 65536, 0.0)}
"""Hosts that never end their greeting: what they send, and the pause in seconds."""
WINDOW = 1 << 31
"""What the host says that it takes, and does not."""


class _Server(paramiko.ServerInterface):
    """Beside STAGES: ``network`` starts the command and takes nothing from the network then;
    ``tunnel`` opens a tunnel that leads nowhere, ``tunnel-network`` takes nothing from the network
    then; ``relay`` passes a tunnel on until the host behind it is logged in to."""

    def __init__(self, stage: str, end: threading.Event, link: paramiko.Transport) -> None:
        self._stage = stage
        self._end = end
        self._link = link

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
        self._stop_reading("network")
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self._stop_reading("tunnel-network")
        if self._stage == "relay":
            threading.Thread(target=self._relay, args=(destination,), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def _relay(self, destination: tuple[str, int]) -> None:
        """Until so much has passed that the login is over; then nothing is taken any more."""
        channel = self._link.accept(10)
        assert channel is not None
        sock = socket.create_connection(destination)
        with contextlib.suppress(OSError), sock:
            threading.Thread(target=_copy, args=(sock, channel), daemon=True).start()
            passed = 0
            while passed < 65536 and (data := channel.recv(4096)):
                sock.sendall(data)
                passed += len(data)
            self._link.packetizer.read_message = self._no_message
            self._end.wait()

    def _stop_reading(self, stage: str) -> None:
        if self._stage == stage:
            self._link.packetizer.read_message = self._no_message

    def _no_message(self) -> None:
        self._end.wait()
        raise EOFError

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
        if self._stage in TALKERS:
            threading.Thread(target=_talk, args=(sock, *TALKERS[self._stage]), daemon=True).start()
            return
        window = WINDOW if self._stage in ("network", "tunnel-network", "relay") else 1 << 16
        link = paramiko.Transport(sock, default_window_size=window)
        self._held.append(link)
        link.add_server_key(paramiko.Ed25519Key(filename=str(self._directory / "host_key")))
        with contextlib.suppress(paramiko.SSHException, EOFError):
            link.start_server(threading.Event(), _Server(self._stage, self._end, link))


def _talk(sock: socket.socket, data: bytes, pause_s: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(data)
            time.sleep(pause_s)


def _copy(source: socket.socket, sink: paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(4096):
            sink.sendall(data)


@contextlib.contextmanager
def silent_server(directory: Path, stage: str) -> Iterator[SilentServer]:
    server = SilentServer(directory, stage)
    try:
        yield server
    finally:
        server.close()
