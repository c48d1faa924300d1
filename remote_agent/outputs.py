"""The files a job leaves under its outputs directory; nothing outside of it can be reached."""

from __future__ import annotations

import errno
import os
from itertools import islice
from typing import Iterator, List, Tuple

from remote_agent.faults import AgentFault
from remote_agent.protocol.snapshot import OutputFile

MAX_CHUNK = 4 << 20
CONFINED = os.O_NOFOLLOW | os.O_CLOEXEC


PAGE = 10000


def list_outputs(root: str) -> Iterator[OutputFile]:
    """Regular files below ``root``, symlinks neither followed nor listed, sorted by name."""
    return _walk(root, "")


def page_of_outputs(root: str, after: str, limit: int = PAGE) -> Tuple[List[OutputFile], bool]:
    """Up to ``limit`` files that come after the path ``after`` ("": from the first one), and
    whether there are more."""
    start = after.split("/") if after else []
    following = (found for found in list_outputs(root) if found.path.split("/") > start)
    page = list(islice(following, limit + 1))
    return page[:limit], len(page) > limit


def read_output(root: str, path: str, offset: int, limit: int) -> bytes:
    """Bytes of one file. Raises AgentFault ``outside-outputs`` or ``no-such-output``."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise AgentFault("outside-outputs", "%r is not a plain relative path" % path)
    if offset < 0 or limit <= 0:
        raise AgentFault("bad-request", "bad offset %d or limit %d" % (offset, limit))
    fd = _open_below(root, parts, path)
    try:
        return os.pread(fd, min(limit, MAX_CHUNK), offset)
    finally:
        os.close(fd)


def _walk(directory: str, prefix: str) -> Iterator[OutputFile]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except (FileNotFoundError, PermissionError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, prefix + entry.name + "/")
        elif entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            yield OutputFile(prefix + entry.name, status.st_size, status.st_mtime)


def _open_below(root: str, parts: list[str], path: str) -> int:
    """Open step by step, refusing a symlink at every step."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | CONFINED)
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        flags = os.O_RDONLY | CONFINED | (os.O_NONBLOCK if last else os.O_DIRECTORY)
        try:
            following = os.open(part, flags, dir_fd=fd)
        except OSError as error:
            raise _refusal(error, path) from None
        finally:
            os.close(fd)
        fd = following
    return fd


def _refusal(error: OSError, path: str) -> AgentFault:
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return AgentFault("outside-outputs", "%r leads through a symlink" % path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return AgentFault("no-such-output", "the job has no output %r" % path)
    return AgentFault("io-error", "%r: %s" % (path, error.strerror))
