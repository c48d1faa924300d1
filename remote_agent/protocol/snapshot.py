"""A code snapshot: a sorted list of files and symlinks, named by the sha256 of its listing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Iterable, Optional, Sequence

from remote_agent.protocol.values import ProtocolError, Value, check_count

MAX_DEPTH = 200
"""Directories in directories, of code and of outputs. Deeper paths could not be opened on most
systems (PATH_MAX)."""

DIGEST = re.compile(r"[0-9a-f]{64}\Z")
OUTPUTS_PAGE = 10_000
OUTPUTS_PAGE_TEXT = 1 << 20
"""Outputs in one answer, and characters of their texts: an answer that is not the last one has
reached one of the two."""


@dataclass(frozen=True)
class SnapshotEntry(Value):
    """A regular file (``digest``: sha256 of its content, ``size`` in bytes) or, when ``target``
    is set, a symlink. ``path`` is relative with ``/``; ``mode`` holds permission bits only."""

    path: str
    mode: int = 0o644
    digest: Optional[str] = None
    size: int = 0
    target: Optional[str] = None


FILE = "file"
SYMLINK = "symlink"
SKIPPED = "skipped"
"""Kinds of outputs. A skipped one cannot be read; ``reason`` says why."""


@dataclass(frozen=True)
class OutputFile(Value):
    """What a job left under its outputs. ``modified_at`` in seconds since the epoch; ``target``:
    where a symlink leads. ``identity`` changes whenever a file is replaced or written to."""

    path: str
    size: int
    modified_at: float = 0.0
    kind: str = FILE
    target: Optional[str] = None
    reason: str = ""
    identity: str = ""

    def check(self) -> None:
        check_path(self.path)
        check_count(self.size, "size")
        if self.kind not in (FILE, SYMLINK, SKIPPED):
            raise ProtocolError("%r is no kind of output" % self.kind[:80])

    @property
    def text_length(self) -> int:
        """Characters of its texts."""
        return len(self.path) + len(self.target or "") + len(self.reason) + len(self.identity)


def canonical(entries: Iterable[SnapshotEntry]) -> bytes:
    """The exact bytes that are stored and whose sha256 names the snapshot."""
    rows = [entry.to_json() for entry in sorted(entries, key=lambda entry: entry.path)]
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode("ascii")


def check_entries(entries: Sequence[SnapshotEntry]) -> None:
    """Raises ProtocolError naming the first entry that must not be written to disk: an absolute
    path, one with ``..``, a duplicate, or one that lies beneath a file or a symlink."""
    seen = set()
    for entry in entries:
        _check_entry(entry)
        if entry.path in seen:
            raise ProtocolError("%r is listed twice" % entry.path)
        seen.add(entry.path)
    for path in seen:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in seen:
                raise ProtocolError("%r lies beneath an entry that is not a directory" % path)


def check_path(path: object) -> None:
    """Raises ProtocolError for anything but a plain path below a directory: relative, without
    empty parts, ``.`` and ``..``."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise ProtocolError("bad path %.200r" % (path,))
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise ProtocolError("%.200r is not a plain relative path" % path)
    if path.count("/") > MAX_DEPTH:
        raise ProtocolError("%r... lies over %d directories deep" % (path[:40], MAX_DEPTH))


def _check_entry(entry: SnapshotEntry) -> None:
    path, target = entry.path, entry.target
    check_path(path)
    if type(entry.mode) is not int or not 0 <= entry.mode <= 0o777:
        raise ProtocolError("%r: bad mode %r" % (path, entry.mode))
    if target is not None:
        if not isinstance(target, str) or not target or "\0" in target:
            raise ProtocolError("%r: bad symlink target" % path)
    elif not isinstance(entry.digest, str) or not DIGEST.match(entry.digest):
        raise ProtocolError("%r: bad digest %r" % (path, entry.digest))
    elif type(entry.size) is not int or entry.size < 0:
        raise ProtocolError("%r: bad size %r" % (path, entry.size))
