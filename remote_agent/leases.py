"""GPU leases: one listening socket per GPU, in a directory of its owner's.

::

    /run/lock/rigup/            made by provisioning: root's, sticky
      .leases-1001-x3k2/        ann's; nobody else can write there
        5f0c….sock              alive while somebody holds its descriptor
        5f0c….job               the job it was leased for, for people to read

Whoever connects learns that a GPU is held, and by which user, and can do no more than that: a lock
on a shared file could be taken by anybody for ever. The dispatcher makes the socket; the job's
supervisor and program inherit it, so the kernel ends it when the last of them has ended, however
they ended, and a program that outlives a killed supervisor keeps its GPUs.

Of two users who lease one GPU at the same moment both see the other and give up, so there is never
more than one holder; both then try again after a random pause. Where a host was not provisioned,
each user's directory lies in /tmp instead, where the others look as well. What cannot be found out
counts as held.
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
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Iterator, Optional, Sequence

from remote_agent.files import make_private
from remote_agent.lease_directories import LeaseDirectories
from remote_agent.protocol.job import JOB_ID

OVERRIDE = "RIGUP_LEASE_DIR"
GUARD = "guard"
GUARD_LIMIT_S = 5.0
"""Another process of this user needs it for milliseconds."""
GUARD_POLL_S = 0.01
COLLISIONS = 4
COLLISION_PAUSE_S = 0.1
"""The longest pause; a random part of it is taken."""
NOTHING_THERE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM),
    *(errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE),
)
"""It vanished, is closed to us, or nobody listens: it holds nothing that counts."""
ALIVE = (errno.EAGAIN, errno.EINPROGRESS)
"""connect(2) to a socket that listens, whose queue is full of earlier questions."""
CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid of whoever began to listen."""
LONGEST_NOTE = 200


@dataclass(frozen=True)
class Holder:
    """``job_id`` is what the user's agent wrote; "" where nothing sensible is there."""

    uid: int
    job_id: str = ""

    def __str__(self) -> str:
        try:
            user = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            user = str(self.uid)
        return "%s of %s" % (self.job_id or "a job", user)


class Leases:
    """Raises OSError where no directory can be used, but only from :meth:`acquire`."""

    def __init__(self, directories: Optional[LeaseDirectories] = None) -> None:
        self._directories = directories or LeaseDirectories()

    @classmethod
    def of_host(cls) -> Leases:
        override = os.environ.get(OVERRIDE)
        if not override:
            return cls()
        make_private(override)
        return cls(LeaseDirectories((override,), (0, os.geteuid())))

    def acquire(self, uuid: str, job_id: str = "") -> Optional[int]:
        """The descriptor that holds the lease, or None when somebody holds the GPU."""
        for attempt in range(COLLISIONS):
            if attempt:
                time.sleep(COLLISION_PAUSE_S * os.urandom(1)[0] / 255)
            if _holder_in(self._directories.of_all(), uuid) is not None:
                return None
            lease = self._claim(uuid, job_id)
            if lease is not None:
                return lease
        return None

    def is_held(self, uuid: str) -> bool:
        try:
            return _holder_in(self._directories.recently_of_all(), uuid) is not None
        except OSError:
            return True

    def holder(self, uuid: str) -> str:
        """``JOB of USER``; "" where nobody holds the GPU."""
        try:
            found = _holder_in(self._directories.recently_of_all(), uuid)
        except OSError as error:
            return "an unknown job (%s)" % error
        return "" if found is None else str(found)

    def refresh(self, uuid: str) -> None:
        """Make what this user keeps for the GPU look young: systemd-tmpfiles deletes what lies
        unchanged in /tmp for days."""
        for path in self._directories.own():
            for name in (_name(uuid), _note(uuid), GUARD, "."):
                with suppress(OSError):
                    os.utime(os.path.join(path, name), follow_symlinks=False)

    def _claim(self, uuid: str, job_id: str) -> Optional[int]:
        """None where somebody else has done the same meanwhile. A directory without room is
        passed over: another user may have filled what it lies on."""
        problem = OSError(errno.ENOENT, "no directory for GPU leases")
        for parent in self._directories.parents:
            try:
                home = self._directories.own_in(parent)
                with _directory(home) as fd, _guarded(fd):
                    return self._claim_in(home, fd, uuid, job_id)
            except OSError as error:
                problem = error
        raise problem

    def _claim_in(self, home: str, fd: int, uuid: str, job_id: str) -> Optional[int]:
        if _holder(fd, uuid) is not None:
            return None
        _write_note(fd, _note(uuid), job_id)
        lease = _listen(fd, _name(uuid))
        try:
            elsewhere = [path for path in self._directories.of_all() if path != home]
            taken = _holder_in(elsewhere, uuid) is not None
        except OSError:
            _give_up(lease, fd, uuid)
            raise
        if taken:
            _give_up(lease, fd, uuid)
            return None
        return lease


def _holder_in(directories: Sequence[str], uuid: str) -> Optional[Holder]:
    """Raises OSError where that cannot be found out."""
    for path in directories:
        try:
            with _directory(path) as fd:
                found = _holder(fd, uuid)
        except OSError as error:
            if error.errno not in NOTHING_THERE:
                raise
            continue
        if found is not None:
            return found
    return None


def _name(uuid: str) -> str:
    """A path of a socket has at most 107 bytes, and a UUID may hold anything."""
    return hashlib.sha256(uuid.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".sock"


def _note(uuid: str) -> str:
    return _name(uuid)[: -len(".sock")] + ".job"


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
        _lock(fd, time.monotonic() + GUARD_LIMIT_S)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(GUARD_POLL_S)


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


def _give_up(lease: int, directory: int, uuid: str) -> None:
    os.close(lease)
    _unlink(_name(uuid), directory)


def _holder(directory: int, uuid: str) -> Optional[Holder]:
    """The directory's owner where a process of that user listens under this name; None where
    nobody does, or somebody else, as behind a symlink to another program's socket. Raises
    OSError where that cannot be found out."""
    owner, name = os.fstat(directory).st_uid, _name(uuid)
    if not _is_socket_of(owner, directory, name):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        code = question.connect_ex(_address(directory, name))
        if code == 0:
            data = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            alive = CREDENTIALS.unpack(data)[1] == owner
        elif code in NOTHING_THERE:
            return None
        elif code in ALIVE:
            alive = _is_socket_of(owner, directory, name)
        else:
            raise OSError(code, os.strerror(code))
    return Holder(owner, _read_note(owner, directory, _note(uuid))) if alive else None


def _is_socket_of(owner: int, directory: int, name: str) -> bool:
    try:
        status = os.lstat(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in NOTHING_THERE:
            raise
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == owner


def _write_note(directory: int, name: str, job_id: str) -> None:
    """It is for people only: without it the lease holds all the same."""
    with suppress(OSError):
        _unlink(name, directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o644, dir_fd=directory)
        try:
            os.fchmod(fd, 0o644)  # whatever the umask is
            os.write(fd, job_id.encode("ascii", "replace"))
        finally:
            os.close(fd)


def _read_note(owner: int, directory: int, name: str) -> str:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:
        return ""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
            return ""
        text = os.read(fd, LONGEST_NOTE).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
    return text if JOB_ID.match(text) else ""


def _address(directory: int, name: str) -> str:
    """Short, whatever the directory's own path is."""
    return "/proc/self/fd/%d/%s" % (directory, name)


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
