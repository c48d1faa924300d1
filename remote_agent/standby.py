"""A supervisor that is started while its job still waits for GPUs: it loads its code and sleeps, so
that a GPU which becomes free is not idle meanwhile.

The dispatcher tells it over a socket which GPUs it gets, and hands over the descriptors that lease
them (SCM_RIGHTS, unix(7)). It ends when the socket does: with the dispatcher, or with the job's
turn.
"""

from __future__ import annotations

import array
import os
import socket
from typing import List, Optional, Sequence, Tuple

from remote_agent.layout import Layout
from remote_agent.runtimes.base import Gpu
from remote_agent.starter import start_waiting_supervisor

MAX_GPUS = 256
MAX_MESSAGE = 1 << 16


class Standby:
    """The dispatcher's end."""

    def __init__(self, job_id: str, channel: socket.socket) -> None:
        self.job_id = job_id
        self._channel = channel

    def go(self, gpus: Sequence[Gpu], leases: Sequence[int]) -> bool:
        """Let it run its job on ``gpus``; False where it is not there any more."""
        words = ",".join(gpu.to_word() for gpu in gpus).encode("utf-8", "surrogateescape")
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", leases))
        try:
            self._channel.sendmsg([words], [rights])
        except OSError:
            return False
        finally:
            self.dismiss()
        return True

    def dismiss(self) -> None:
        """It ends, unless it was told to go. May be called twice."""
        self._channel.close()


def prepare_standby(layout: Layout, job_id: str) -> Standby:
    """Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        start_waiting_supervisor(layout, job_id, theirs.fileno())
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Standby(job_id, ours)


def wait_for_go(fd: int) -> Optional[Tuple[List[Gpu], List[int]]]:
    """The GPUs and the descriptors that lease them; None where the job's turn never came."""
    with socket.socket(fileno=fd) as channel:
        room = socket.CMSG_SPACE(MAX_GPUS * array.array("i").itemsize)
        words, rights, _, _ = channel.recvmsg(MAX_MESSAGE, room)
    leases = array.array("i")
    for level, kind, data in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            leases.frombytes(data[: len(data) - len(data) % leases.itemsize])
    if not words:
        return None
    for lease in leases:
        os.set_inheritable(lease, True)
    told = words.decode("utf-8", "surrogateescape").split(",")
    return [Gpu.from_word(word) for word in told], list(leases)
