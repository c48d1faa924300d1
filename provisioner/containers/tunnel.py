"""A tunnel to a port inside a container, which ends with the program that opened it."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from provisioner.containers.ssh_fragment import ssh_words
from provisioner.errors import RigupError, UsageError

PORTS_TRIED = 20
ENDING = (signal.SIGTERM, signal.SIGHUP)
SIGNALLED = 128
"""As shells do: the exit code of a program that a signal ended is this and its number."""
ENDS_WITHIN_S = 5.0
OPTIONS = (
    "ExitOnForwardFailure=yes",
    "ConnectTimeout=30",
    "ServerAliveInterval=15",
    # A shared connection would carry the tunnel in another process, which goes on.
    "ControlMaster=no",
    "ControlPath=none",
    "RemoteCommand=none",
)
PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def free_port(wanted: int | None, usual: int) -> int:
    """A port of this machine's loopback: ``wanted``, else ``usual`` or the next free one.

    Raises UsageError where it is taken.
    """
    if wanted is not None:
        if not _is_free(wanted):
            raise UsageError(
                f"port {wanted} of this machine is taken",
                remedy="leave --port out and a free one is chosen, or see who has it: ss -ltnp",
            )
        return wanted
    for port in range(usual, usual + PORTS_TRIED):
        if _is_free(port):
            return port
    raise UsageError(
        f"ports {usual} to {usual + PORTS_TRIED - 1} of this machine are taken",
        remedy="name a free one with --port",
    )


def tunnel_words(alias: str, port: int, local_port: int) -> list[str]:
    """The ``ssh`` that carries a port of this machine's loopback to one of the container's."""
    forward = f"127.0.0.1:{local_port}:127.0.0.1:{port}"
    options = [word for option in OPTIONS for word in ("-o", option)]
    return [*ssh_words(), "-N", *options, "-L", forward, "--", alias]


def run_tunnel(alias: str, port: int, local_port: int) -> int:
    """Hold the tunnel open until ctrl-c, SIGTERM or SIGHUP; the exit code for that.

    It never outlives this program: on Linux not even one that is killed. Raises RigupError where
    it ends by itself.
    """
    words = tunnel_words(alias, port, local_port)
    process = subprocess.Popen(words, preexec_fn=_die_with_parent)
    with _passed_on(process.terminate) as asked:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(process)
    if asked:
        return SIGNALLED + asked[0]
    raise RigupError(
        f"the tunnel to {alias} ended (ssh exited with {code})",
        remedy="see what ssh says above; is the container up? invoke container.list",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _passed_on(end: Callable[[], None]) -> Iterator[list[int]]:
    """What asks this program to end ends the tunnel. Yields the signals that came."""
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        end()

    before = {number: signal.signal(number, handle) for number in ENDING}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
