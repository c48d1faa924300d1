"""GPU leases: one listening socket per GPU, in a directory of its owner's.

::

    /run/lock/rigup/            made by provisioning: root's, sticky
      .leases-ann-x3k2/         ann's; nobody else can write there
        5f0c….sock              alive while somebody holds its descriptor

Whoever connects learns that a GPU is held, and by which user, and can do no more than that: a lock
on a shared file could be taken by anybody for ever. The dispatcher makes the socket; the job's
supervisor and program inherit it, so the kernel ends it when the last of them has ended, however
they ended, and a program that outlives a killed supervisor keeps its GPUs.

Of two users who lease one GPU at the same moment both see the other and give up, so there is never
more than one holder. Where a host was not provisioned, each user's directory lies in /tmp instead,
where the others look as well.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import socket
import stat
import struct
import tempfile
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Sequence

from remote_agent.files import make_private

PARENTS = ("/run/lock/rigup", "/tmp")  # noqa: S108  sticky, owner checked
"""Where users' directories may lie; the first that can be written to gets a new one."""
OVERRIDE = "RIGUP_LEASE_DIR"
PREFIX = ".leases-"
GUARD = "guard"
MOST_PER_USER = 4
"""Directories of one user that are looked into: more of them would only cost the others time."""
ALIVE = (errno.EAGAIN, errno.EINPROGRESS)
"""connect(2) to a socket that listens, whose queue is full of earlier questions."""
CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid of whoever began to listen."""


class Leases:
    """Raises OSError where no directory can be used, but only from :meth:`acquire`."""

    def __init__(self, parents: Sequence[str] = PARENTS) -> None:
        self._parents = parents

    @classmethod
    def of_host(cls) -> Leases:
        override = os.environ.get(OVERRIDE)
        if not override:
            return cls()
        make_private(override)
        return cls((override,))

    def acquire(self, uuid: str) -> Optional[int]:
        """The descriptor that holds the lease, or None when somebody holds the GPU."""
        home = self._home()
        with _directory(home) as fd, _guarded(fd):
            if _holder(fd, _name(uuid)) is not None:
                return None
            lease = _listen(fd, _name(uuid))
            if self._holder_elsewhere(uuid, home) is None:
                return lease
            os.unlink(_name(uuid), dir_fd=fd)
            os.close(lease)
            return None

    def is_held(self, uuid: str) -> bool:
        return self._holder_elsewhere(uuid, "") is not None

    def holder(self, uuid: str) -> str:
        """The name of the user who holds the GPU; "" where nobody does."""
        uid = self._holder_elsewhere(uuid, "")
        if uid is None:
            return ""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def _holder_elsewhere(self, uuid: str, home: str) -> Optional[int]:
        for path in self._directories():
            if path == home:
                continue
            try:
                with _directory(path) as fd:
                    uid = _holder(fd, _name(uuid))
            except OSError:
                continue  # it vanished, or is closed to us: then it holds nothing that counts
            if uid is not None:
                return uid
        return None

    def _home(self) -> str:
        """This user's own directory, made where there is none."""
        own = [path for path in self._directories() if os.lstat(path).st_uid == os.geteuid()]
        if own:
            return own[0]
        problem: Optional[OSError] = None
        for parent in self._parents:
            try:
                return _new_directory(parent)
            except OSError as error:
                problem = error
        raise problem or OSError(errno.ENOENT, "no directory for GPU leases")

    def _directories(self) -> List[str]:
        """Those of all users, each owned and written to by one user only."""
        found: List[str] = []
        for parent in self._parents:
            if _is_trusted(parent):
                found += _users_directories(parent)
        return found


def _users_directories(parent: str) -> List[str]:
    counts: Dict[int, int] = {}
    found = []
    try:
        names = sorted(name for name in os.listdir(parent) if name.startswith(PREFIX))
    except OSError:
        return []
    for name in names:
        path = os.path.join(parent, name)
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if not stat.S_ISDIR(status.st_mode) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            continue
        counts[status.st_uid] = counts.get(status.st_uid, 0) + 1
        if counts[status.st_uid] <= MOST_PER_USER:
            found.append(path)
    return found


def _is_trusted(parent: str) -> bool:
    """Of root or ourselves, and sticky where others may write: nobody exchanges what lies there."""
    try:
        status = os.lstat(parent)
    except OSError:
        return False
    open_to_all = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    safe = not open_to_all or bool(status.st_mode & stat.S_ISVTX)
    return stat.S_ISDIR(status.st_mode) and safe and status.st_uid in (0, os.geteuid())


def _new_directory(parent: str) -> str:
    """Raises OSError."""
    if not _is_trusted(parent):
        raise PermissionError(errno.EACCES, "cannot be used for GPU leases", parent)
    path = tempfile.mkdtemp(prefix="%s%d-" % (PREFIX, os.geteuid()), dir=parent)
    os.chmod(path, 0o755)  # noqa: S103  the others look for sockets in it
    return path


def _name(uuid: str) -> str:
    """A path of a socket has at most 107 bytes, and a UUID may hold anything."""
    return hashlib.sha256(uuid.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".sock"


@contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _guarded(directory: int) -> Iterator[None]:
    """No other process of this user makes a lease meanwhile. The file is closed to the others."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(GUARD, flags, 0o600, dir_fd=directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _listen(directory: int, name: str) -> int:
    """The descriptor of a new socket that bears this name."""
    temporary = "%s.%d" % (name, os.getpid())
    _unlink(temporary, directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(_address(directory, temporary))
        listener.listen(0)
        os.chmod(_address(directory, temporary), 0o666)  # noqa: S103  connecting asks for it
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        listener.close()
        _unlink(temporary, directory)
        raise
    return listener.detach()


def _holder(directory: int, name: str) -> Optional[int]:
    """The uid of the directory's owner where a process of that user listens under this name; None
    where nobody does, or somebody else, as behind a symlink to another program's socket."""
    owner = os.fstat(directory).st_uid
    if not _is_socket_of(owner, directory, name):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        code = question.connect_ex(_address(directory, name))
        if code == 0:
            data = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            return owner if CREDENTIALS.unpack(data)[1] == owner else None
    return owner if code in ALIVE and _is_socket_of(owner, directory, name) else None


def _is_socket_of(owner: int, directory: int, name: str) -> bool:
    try:
        status = os.lstat(name, dir_fd=directory)
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == owner


def _address(directory: int, name: str) -> str:
    """Short, whatever the directory's own path is."""
    return "/proc/self/fd/%d/%s" % (directory, name)


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
