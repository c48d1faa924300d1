"""Is the disk full below a directory, and was it while a job ran?"""

from __future__ import annotations

import os

from remote_agent.faults import complain

ALMOST_NOTHING = 64 * 1024
"""Bytes; less than that a log does not notice either."""
PROBE = b"\0" * 4096


class DiskWatch:
    """``look`` often; ``was_full`` then says whether the disk was seen full at any of the looks."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.was_full = False

    def look(self) -> None:
        if has_no_room(self._directory):
            self.was_full = True

    def said(self) -> str:
        """What was seen, for a verdict; "" where there was always room."""
        problem = write_problem(self._directory)
        if problem:
            return "nothing could be written in %s when it ended: %s" % (self._directory, problem)
        self.look()
        if self.was_full:
            return "the disk of %s was full while it ran" % self._directory
        return ""


def has_no_room(directory: str) -> bool:
    """By the file system's own account; quotas do not show there."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize < ALMOST_NOTHING or (found.f_files > 0 and found.f_ffree == 0)


def write_problem(directory: str) -> str:
    """Why no file can be written there, "" where one can."""
    path = os.path.join(directory, ".probe.%d" % os.getpid())
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(fd, PROBE)
        finally:
            os.close(fd)
            os.unlink(path)
    except OSError as error:
        return error.strerror or str(error)
    return "" if written == len(PROBE) else "No space left on device"


class Complaints:
    """Says a problem once, and again only after another one."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, text: str) -> None:
        if text != self._last:
            self._last = text
            complain(text)
