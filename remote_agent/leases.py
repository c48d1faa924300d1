"""GPU leases: one lock file per GPU in a directory that all users of the host share.

The lock (flock(2)) belongs to the open descriptor, which the dispatcher takes, and the job's
supervisor and program inherit; the kernel frees it when they have ended, however they ended. So a
program that outlives a killed supervisor keeps its GPUs. A lock needs only read access, so one
user's file serves all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from typing import Optional, Sequence

LEASE_DIRS = ("/run/lock/rigup", "/tmp/.rigup-leases")  # noqa: S108  sticky, owner checked
"""The first that exists or can be made is used; where users may not write /run/lock (the RHEL
family) that is the second. Locks in all of them count."""
OVERRIDE = "RIGUP_LEASE_DIR"
STICKY = 0o1777


class Leases:
    def __init__(self, directories: Sequence[str] = LEASE_DIRS) -> None:
        self._directories = directories

    @classmethod
    def of_host(cls) -> Leases:
        override = os.environ.get(OVERRIDE)
        return cls((override,) if override else LEASE_DIRS)

    def acquire(self, uuid: str) -> Optional[int]:
        """The locked descriptor, or None when somebody holds the GPU. Raises OSError when no
        shared directory can be used."""
        home = self._home()
        fd = _lock(os.path.join(home, _name(uuid)))
        others = (other for other in self._directories if other != home)
        if fd is not None and any(_held_in(other, uuid) for other in others):
            os.close(fd)  # looked for only now: of two who lock in two places, neither goes on
            return None
        return fd

    def is_held(self, uuid: str) -> bool:
        return any(_held_in(directory, uuid) for directory in self._directories)

    def _home(self) -> str:
        problem: Optional[OSError] = None
        for directory in self._directories:
            try:
                _make_shared(directory)
            except OSError as error:
                problem = error
            else:
                return directory
        raise problem or OSError(errno.ENOENT, "no directory for GPU leases")


def _held_in(directory: str, uuid: str) -> bool:
    path = os.path.join(directory, _name(uuid))
    if not _is_shared(directory) or not os.path.lexists(path):
        return False
    fd = _lock(path)
    if fd is None:
        return True
    os.close(fd)
    return False


def _name(uuid: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", uuid) + ".lock"


def _make_shared(directory: str) -> None:
    try:
        os.mkdir(directory)
    except FileExistsError:
        pass
    else:
        os.chmod(directory, STICKY)
    if not _is_shared(directory) or not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "cannot be used for GPU leases", directory)


def _is_shared(directory: str) -> bool:
    """Sticky, and of root or ourselves: else another user could exchange the files in it."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    trusted = found.st_uid in (0, os.geteuid()) and bool(found.st_mode & stat.S_ISVTX)
    return trusted and stat.S_ISDIR(found.st_mode)


def _lock(path: str) -> Optional[int]:
    """Lock the file that bears this name now; a cleaner of /tmp may have replaced it. None when
    it is locked, and where what lies there is no file of this kind: that GPU is not for us."""
    while True:
        try:
            fd = _open(path)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if _bears_name(fd, path):
            return fd
        os.close(fd)


def _open(path: str) -> int:
    """Without O_CREAT first: in a sticky directory the kernel refuses O_CREAT on somebody
    else's file (fs.protected_regular, see proc(5))."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        fd = os.open(path, flags | os.O_CREAT, 0o644)
        os.fchmod(fd, 0o644)
        return fd


def _bears_name(fd: int, path: str) -> bool:
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return os.fstat(fd).st_ino == named.st_ino
