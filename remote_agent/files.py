"""Files that survive a power cut: temporary name, fsync, rename, fsync of the directory."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator


def write_atomic(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace ``path`` as a whole or not at all; durable when this returns."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def write_json(path: str, value: Dict[str, Any], mode: int = 0o600) -> None:
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True).encode("ascii") + b"\n", mode)


def read_json(path: str) -> Dict[str, Any]:
    """Raises FileNotFoundError, or ValueError for a file that holds no JSON object."""
    with open(path, "rb") as file:
        value = json.loads(file.read())
    if not isinstance(value, dict):
        raise ValueError("%s: expected a JSON object" % path)
    return value


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private(path: str) -> None:
    """Create a directory (and its parents) that only its owner can enter."""
    os.makedirs(path, mode=0o700, exist_ok=True)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold an exclusive lock between processes; waits for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def try_lock(path: str) -> Iterator[bool]:
    """The same without waiting: False where another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
