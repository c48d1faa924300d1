"""What the process that receives an image says of it: a file in the job's directory.

It holds how many bytes have arrived so far, in ASCII digits, and is touched every few seconds as
long as the sender is there, also while Docker unpacks what has arrived.
"""

from __future__ import annotations

import os
import re
import stat
import time
from typing import Callable, Optional, Tuple

DIGITS = re.compile(rb"(\d{1,18})\s{0,2}\Z")
LONGEST = 64
SILENCE_S = 300.0
"""So long an image may be on its way without a word of its sender."""


class Arrival:
    """``arrived``: bytes so far. ``still_s``: for so long it has not grown."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._heard_at = self._grew_at = clock()
        self._last: Optional[Tuple[int, int]] = None
        self.arrived = 0

    def look(self) -> None:
        told = read_arrived(self._path)
        if told is None or told == self._last:
            return
        self._last, self._heard_at = told, self._clock()
        if told[0] != self.arrived:
            self._grew_at = self._clock()
        self.arrived = told[0]

    @property
    def still_s(self) -> float:
        return self._clock() - self._grew_at

    @property
    def has_ended(self) -> bool:
        """By this machine's own clock: the time of day may be set meanwhile."""
        return self._clock() - self._heard_at >= SILENCE_S


def read_arrived(path: str) -> Optional[Tuple[int, int]]:
    """The bytes, and when that was written (ns); None for anything but such a file of this user."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return None
        match = DIGITS.match(os.read(fd, LONGEST))
    except OSError:
        return None
    finally:
        os.close(fd)
    return None if match is None else (int(match.group(1)), status.st_mtime_ns)
