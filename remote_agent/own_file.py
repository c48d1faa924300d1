"""The file that this process was started from, and may start others from."""

from __future__ import annotations

import os
import sys
import time
from typing import Callable

REFRESH_S = 3600.0


def own_path() -> str:
    """The file itself, where it was started by way of a symlink that later leads elsewhere."""
    return os.path.realpath(sys.argv[0])


class OwnFile:
    """Keeps the file's modification time young: a deployment deletes agents that nobody has used
    for a month."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._due = 0.0

    def keep(self) -> None:
        """Call often; it acts every :data:`REFRESH_S` seconds."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + REFRESH_S
        try:
            os.utime(self._path)
        except OSError:
            return  # gone, or not ours (a source tree): nothing to keep
