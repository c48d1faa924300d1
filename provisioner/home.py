"""rigup's own directory on the user's machine: pinned keys, SSH fragment, transcripts, lab."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def rigup_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``$RIGUP_HOME``, else ``~/.rigup``. Not created here."""
    return Path(environ.get("RIGUP_HOME") or "~/.rigup").expanduser().absolute()


def known_hosts_file() -> Path:
    """Where ``trust`` pins host keys, in OpenSSH's known_hosts format."""
    return rigup_home() / "known_hosts"


def transcripts_dir() -> Path:
    return rigup_home() / "transcripts"


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a whole file atomically and durably; its directory is made 0700 where missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else, in any process, is in here for the same ``path``.

    The lock is a file beside it, because ``write_private`` replaces the file itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.lock")
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
