"""A job's state.json: replaced as a whole, also where the disk has no room for another file.

On a full disk the new state goes into a file whose blocks were reserved when the job was queued,
which then takes the old one's place. File systems that copy on write (btrfs, ZFS) may refuse even
that: then the write fails as it always did, and its caller tries again later.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Any, Dict

from remote_agent.files import sync_directory, write_all, write_json
from remote_agent.layout import JobPaths

RESERVE_BYTES = 4096
"""One block of most file systems; a state has about 1 KiB, and 3 KiB with a long verdict."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def write_state(paths: JobPaths, value: Dict[str, Any]) -> None:
    """Durable when this returns. Raises OSError."""
    try:
        write_json(paths.state, value)
    except OSError as error:
        if error.errno not in NO_ROOM or not _write_into_reserve(paths, value):
            raise
        reserve(paths)  # the old state's block is free now


def reserve(paths: JobPaths) -> bool:
    """Make sure that there is room for one more state; False where there is none."""
    try:
        fd = os.open(paths.reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(fd, 0, RESERVE_BYTES)
    except OSError:
        os.unlink(paths.reserve)
        return False
    finally:
        os.close(fd)
    return True


def release_reserve(paths: JobPaths) -> None:
    """Nothing will be written any more."""
    try:
        os.unlink(paths.reserve)
    except OSError:
        return


def _write_into_reserve(paths: JobPaths, value: Dict[str, Any]) -> bool:
    data = json.dumps(value, sort_keys=True).encode("ascii")
    if len(data) >= RESERVE_BYTES:
        return False
    try:
        fd = os.open(paths.reserve, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        write_all(fd, data.ljust(RESERVE_BYTES - 1) + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(paths.reserve, paths.state)
    sync_directory(paths.root)
    return True
