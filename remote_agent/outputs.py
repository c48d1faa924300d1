"""What a job leaves under its outputs directory; nothing outside of it can be reached."""

from __future__ import annotations

import errno
import heapq
import os
import stat
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from remote_agent.faults import AgentFault
from remote_agent.layout import JobPaths
from remote_agent.protocol.job import JobSpec
from remote_agent.protocol.snapshot import (
    MAX_DEPTH,
    OUTPUTS_PAGE,
    OUTPUTS_PAGE_TEXT,
    SKIPPED,
    SYMLINK,
    OutputFile,
)
from remote_agent.sha import sha256
from remote_agent.tasks import Steps, Wait
from remote_agent.workspace import working_directory

MAX_CHUNK = 4 << 20
CONFINED = os.O_NOFOLLOW | os.O_CLOEXEC

KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def output_roots(spec: JobSpec, paths: JobPaths) -> List[str]:
    """The job's outputs directory, and every plain directory that the program put in the place of
    the links to it."""
    replaced = (
        path for path in _links(spec, paths) if os.path.isdir(path) and not os.path.islink(path)
    )
    return [paths.outputs, *replaced]


def redirected_outputs(spec: JobSpec, paths: JobPaths) -> List[OutputFile]:
    """One row where the program put a link of its own in the place of ours: its results are
    somewhere else, and what lies there is nobody's to send."""
    ours = os.path.realpath(paths.outputs)
    for link in _links(spec, paths):
        if os.path.islink(link) and os.path.realpath(link) != ours:
            reason = "the program made it a link to %s, which is not followed" % os.readlink(link)
            return [_skipped("outputs", reason)]
    return []


def _links(spec: JobSpec, paths: JobPaths) -> List[str]:
    """Where the program finds its outputs directory."""
    directories = {paths.work, working_directory(spec, paths)}
    return sorted(os.path.join(directory, "outputs") for directory in directories)


def page_of_outputs(
    roots: Sequence[str],
    after: str,
    limit: int = OUTPUTS_PAGE,
    others: Sequence[OutputFile] = (),
) -> Tuple[List[OutputFile], bool]:
    """Outputs that come after the path ``after`` ("": from the first one), up to ``limit`` and
    OUTPUTS_PAGE_TEXT, and whether there are more. ``others``: rows that are listed as well."""
    start = after.split("/") if after else []
    page: List[OutputFile] = []
    length = 0
    for found in list_outputs(roots, others):
        if found.path.split("/") <= start:
            continue
        if len(page) >= limit or length >= OUTPUTS_PAGE_TEXT:
            return page, True
        page.append(found)
        length += found.text_length
    return page, False


def list_outputs(roots: Sequence[str], others: Sequence[OutputFile] = ()) -> Iterator[OutputFile]:
    """Files and symlinks below the roots, and what cannot be read with the reason, sorted by
    their parts. Of two with one path, that of the first root counts."""
    merged = heapq.merge(
        *(_walk(root) for root in roots), others, key=lambda output: output.path.split("/")
    )
    previous = None
    for output in merged:
        if output.path != previous:
            yield output
        previous = output.path


def read_output(
    roots: Sequence[str], path: str, offset: int, limit: int
) -> Tuple[Dict[str, Any], bytes]:
    """Bytes of one file, with its identity when they were read.

    ``hole``: so many bytes from ``offset`` on are zero and lie on no disk; none are sent.
    ``whole``: these are all bytes of the file, and nobody changed them while they were read.
    Raises AgentFault ``outside-outputs``, ``no-such-output`` or ``io-error``.
    """
    if offset < 0 or limit <= 0:
        raise AgentFault("bad-request", "bad offset %d or limit %d" % (offset, limit))
    fd = _open(roots, path)
    try:
        hole = _hole(fd, offset)
        length = 0 if hole else min(limit, MAX_CHUNK)
        data = os.pread(fd, length, offset)
        again = os.pread(fd, length, 0) if offset == 0 else b""
        status = os.fstat(fd)
        left = max(0, status.st_size - offset)  # the program may have cut the file meanwhile
        whole = offset == 0 and len(data) == status.st_size and again == data
        return {
            "identity": identity(status),
            "size": status.st_size,
            "hole": min(hole, left),
            "whole": whole,
        }, data[:left]
    except OSError as error:
        raise AgentFault("io-error", "%r: %s" % (path, error.strerror)) from None
    finally:
        os.close(fd)


def hash_output(roots: Sequence[str], path: str, offset: int, length: int) -> Steps:
    """Answers with the SHA-256 of a part of a file and the file's identity. Raises as
    :func:`read_output` does."""
    digest, end = sha256(), offset + length
    fd = _open(roots, path)
    try:
        while offset < end:
            data = os.pread(fd, min(MAX_CHUNK, end - offset), offset)
            if not data:
                break
            digest.update(data)
            offset += len(data)
            yield Wait(0.0)
        return {"sha256": digest.hexdigest(), "identity": identity(os.fstat(fd))}, b""
    except OSError as error:
        raise AgentFault("io-error", "%r: %s" % (path, error.strerror)) from None
    finally:
        os.close(fd)


def identity(status: os.stat_result) -> str:
    """Changes whenever the file is replaced or written to."""
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return ":".join(map(str, parts))


def _walk(root: str) -> Iterator[OutputFile]:
    try:
        stack = [iter(_entries(root))]
    except (FileNotFoundError, NotADirectoryError):
        return  # the program removed its own outputs directory
    names: List[str] = []
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            names[len(stack) - 1 :] = []
            continue
        names[len(stack) - 1 :] = [entry.name]
        path = "/".join(names)
        try:
            if not entry.is_dir(follow_symlinks=False):
                yield _described(entry, path)
            elif len(names) >= MAX_DEPTH:
                yield _skipped(path, "over %d directories in one another" % MAX_DEPTH)
            else:
                stack.append(iter(_entries(entry.path)))
        except FileNotFoundError:
            continue  # it vanished just now
        except OSError as error:
            yield _skipped(path, error.strerror or str(error))


def _entries(directory: str) -> List["os.DirEntry[str]"]:
    with os.scandir(directory) as found:
        return sorted(found, key=lambda entry: entry.name)


def _described(entry: "os.DirEntry[str]", path: str) -> OutputFile:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        return OutputFile(path, status.st_size, status.st_mtime, identity=identity(status))
    if stat.S_ISLNK(status.st_mode):
        return OutputFile(path, 0, status.st_mtime, SYMLINK, os.readlink(entry.path))
    kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "no file")
    return _skipped(path, kind)


def _skipped(path: str, reason: str) -> OutputFile:
    return OutputFile(path, 0, 0.0, SKIPPED, reason=reason)


def _open(roots: Sequence[str], path: str) -> int:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise AgentFault("outside-outputs", "%r is not a plain relative path" % path)
    problem = None
    for root in roots:
        try:
            return _open_below(root, parts)
        except OSError as error:
            problem = problem or error
    raise _refusal(problem or FileNotFoundError(), path)


def _open_below(root: str, parts: Sequence[str]) -> int:
    """Open step by step, refusing a symlink at every step. Only a regular file is given back."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | CONFINED)
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        flags = os.O_RDONLY | CONFINED | (os.O_NONBLOCK if last else os.O_DIRECTORY)
        try:
            following = os.open(part, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = following
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def _hole(fd: int, offset: int) -> int:
    """How many bytes from ``offset`` on lie on no disk; 0 also where the system cannot tell."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) - offset
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data from here on
            return 0
        return max(0, os.fstat(fd).st_size - offset)


def _refusal(error: OSError, path: str) -> AgentFault:
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return AgentFault("outside-outputs", "%r leads through a symlink" % path)
    if error.errno in (None, errno.ENOENT, errno.ENOTDIR):
        return AgentFault("no-such-output", "the job has no output %r" % path)
    return AgentFault("io-error", "%r: %s" % (path, error.strerror))
