"""Wake the dispatcher: a byte in a FIFO says that the queue or the GPUs may have changed.

Nothing depends on it: where it cannot be made or a byte is missing, the dispatcher's own slow
looks find the change.
"""

from __future__ import annotations

import os
import select
import stat
import time
from contextlib import suppress
from typing import Optional

from remote_agent.faults import complain
from remote_agent.layout import Layout

MANY = 65536


class Wakeup:
    """The dispatcher's end."""

    def __init__(self, layout: Layout) -> None:
        self._fd = _open(layout.dispatcher_wake)

    def wait(self, seconds: float) -> bool:
        """Sleep, at most ``seconds``; True when somebody woke us."""
        if self._fd is None:
            time.sleep(seconds)
            return False
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
        os.read(self._fd, MANY)
        return True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def wake_dispatcher(layout: Layout) -> None:
    """Does nothing where no dispatcher waits."""
    try:
        fd = os.open(layout.dispatcher_wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # no such FIFO, or nobody reads it
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.write(fd, b".")
    except OSError:
        return  # so many bytes are waiting that it will wake anyway
    finally:
        os.close(fd)


def _open(path: str) -> Optional[int]:
    """Open for reading and writing: a FIFO without writers would always be readable."""
    try:
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        complain("%s is no FIFO; looking at the queue from time to time instead" % path)
    except OSError as error:
        complain("%s: %s; looking at the queue from time to time instead" % (path, error))
    return None
