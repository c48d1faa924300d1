"""What an SSH connection runs over: a TCP socket, or a ProxyCommand."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

from provisioner.transport.deadline import Deadline, within

DEAD_LINK_S = 30
LEAST_S = 0.05
"""For one of very many addresses. Zero would mean: do not wait at all."""
PROXY_ENDS_WITHIN_S = 2.0
PROXY_SPEAKS_WITHIN_S = 0.5
COMPLAINT_KEPT = 2048


def open_tcp(address: str, port: int, timeout_s: float) -> socket.socket:
    """A connected socket with Nagle off that gives a dead link up after ``DEAD_LINK_S``.

    ``timeout_s`` is for the name and all its addresses together. Raises OSError.
    """
    sock = _connected(address, port, Deadline(timeout_s))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
    return sock


def _connected(address: str, port: int, deadline: Deadline) -> socket.socket:
    """Each address of the name gets its part of the time that is left."""
    found = within(
        deadline.left(), lambda: socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    )
    failure: OSError = TimeoutError("no answer in time")
    for tried, (family, kind, protocol, _, place) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(deadline.left() / (len(found) - tried), LEAST_S))
            sock.connect(place)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


class ProxySocket(socket.socket):
    """A socket whose other end is the standard input and output of a ProxyCommand.

    Closing it ends the command and reaps it.
    """

    def __init__(self, command: str) -> None:
        """``exec`` as in ssh_config(5): no shell stays in between. Raises OSError."""
        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._complaint = b""
        with theirs:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def close(self) -> None:
        super().close()
        self._process.terminate()
        try:
            self._process.wait(PROXY_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(PROXY_ENDS_WITHIN_S)

    def complaint(self) -> str:
        """What the command said, "" where it was silent. Waits a moment for one that fails."""
        self._listener.join(PROXY_SPEAKS_WITHIN_S)
        return self._complaint.decode("utf-8", "replace").strip()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            while chunk := os.read(stderr.fileno(), 4096):
                self._complaint = (self._complaint + chunk)[-COMPLAINT_KEPT:]
