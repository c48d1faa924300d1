"""What the kernel said and did while a job ran."""

from __future__ import annotations

import ctypes
import os
import signal
from collections import deque
from typing import Deque, Optional, Tuple

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
KMSG_RECORD = 8192  # longest record that /dev/kmsg hands out
MAX_LINES = 20000
MAX_RECORDS = 200000
"""A kernel that writes faster than we read must not hold up a job's end."""


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init; see prctl(2)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """For a new child: the kernel kills it when its parent ends, however that ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class KernelWatch:
    """Remembers a moment; later tells what the kernel has said and how often it has killed for
    memory since. Kernel messages are empty where users may not read them."""

    def __init__(self) -> None:
        self._kills = _oom_kills()
        self._fd = _open_messages()

    def oom_kills(self) -> int:
        return _oom_kills() - self._kills

    def lines(self) -> Tuple[str, ...]:
        if self._fd is None:
            return ()
        found: Deque[str] = deque(maxlen=MAX_LINES)
        for _ in range(MAX_RECORDS):
            try:
                record = os.read(self._fd, KMSG_RECORD)
            except BrokenPipeError:  # the ring overwrote what we had not read: go on after it
                continue
            except OSError:  # also BlockingIOError: that was the last one
                break
            found.append(record.partition(b";")[2].partition(b"\n")[0].decode("utf-8", "replace"))
        return tuple(found)


def _open_messages() -> Optional[int]:
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        return None
    return fd


def _oom_kills() -> int:
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        return 0
    return 0
