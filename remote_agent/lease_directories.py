"""Where users of a host keep their GPU leases: one directory each, which nobody else can write to.

A directory counts only where nobody but root could have put another one in its place.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from typing import Dict, List, Sequence, Tuple

PARENTS = ("/run/lock/rigup", "/tmp")  # noqa: S108  sticky, owner checked
"""Where users' directories may lie. The first that can be used gets a new one."""
PREFIX = ".leases-"
MOST_PER_USER = 4
"""Directories of one user, in one parent, that are looked into: more would only cost time."""
MODE = 0o755
"""Others look for sockets in it."""
REMEMBERED_S = 0.5
"""For looking: a parent with very many names must not be listed for every GPU."""


class LeaseDirectories:
    """``owners``: the users whose parents are trusted. A parent that a user made is seen by that
    user only, who would then share GPUs with the others: so on a host, only root's count."""

    def __init__(self, parents: Sequence[str] = PARENTS, owners: Sequence[int] = (0,)) -> None:
        self.parents = parents
        self._owners = owners
        self._remembered: Tuple[float, List[str]] = (-REMEMBERED_S, [])

    def of_all(self) -> List[str]:
        """Those of all users, each owned and written to by one user only."""
        found = [path for parent in self._trusted() for path in _users_directories(parent)]
        self._remembered = (time.monotonic(), found)
        return found

    def recently_of_all(self) -> List[str]:
        """The same, up to :data:`REMEMBERED_S` seconds old."""
        at, found = self._remembered
        return found if time.monotonic() - at < REMEMBERED_S else self.of_all()

    def own(self) -> List[str]:
        """Those of this user that are there."""
        return [path for path in self.of_all() if _is_own(path)]

    def own_in(self, parent: str) -> str:
        """This user's directory in ``parent``, made where there is none. Raises OSError."""
        if not self._is_trusted(parent):
            raise PermissionError(errno.EACCES, "cannot be used for GPU leases", parent)
        for path in _users_directories(parent):
            if _is_own(path):
                _open_to_readers(path)
                return path
        path = tempfile.mkdtemp(prefix="%s%d-" % (PREFIX, os.geteuid()), dir=parent)
        os.chmod(path, MODE)
        return path

    def _trusted(self) -> List[str]:
        return [parent for parent in self.parents if self._is_trusted(parent)]

    def _is_trusted(self, parent: str) -> bool:
        """Sticky where others may write: then nobody exchanges what lies there."""
        try:
            status = os.lstat(parent)
        except OSError:
            return False
        open_to_all = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        safe = not open_to_all or bool(status.st_mode & stat.S_ISVTX)
        return stat.S_ISDIR(status.st_mode) and safe and status.st_uid in self._owners


def _is_own(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return False  # it vanished


def _open_to_readers(path: str) -> None:
    """A process that was killed while it made the directory left it closed to the others."""
    if stat.S_IMODE(os.lstat(path).st_mode) != MODE:
        os.chmod(path, MODE)


def _users_directories(parent: str) -> List[str]:
    counts: Dict[int, int] = {}
    found = []
    for path in _candidates(parent):
        try:
            status = os.lstat(path)
        except OSError:
            continue  # it vanished
        if not stat.S_ISDIR(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            continue
        counts[status.st_uid] = counts.get(status.st_uid, 0) + 1
        if counts[status.st_uid] <= MOST_PER_USER:
            found.append(path)
    return found


def _candidates(parent: str) -> List[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(
                entry.path
                for entry in entries
                if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)
            )
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise  # what cannot be listed may hold leases
