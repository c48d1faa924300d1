"""Code snapshots on disk: contents by sha256, listings by sha256, and a job's private copy."""

from __future__ import annotations

import fcntl
import os
from typing import Any, Callable, Dict, Generator, Iterable, Iterator, List, Optional, Sequence

from remote_agent.faults import AgentFault, CouldNotStart
from remote_agent.files import make_private, write_all, write_atomic
from remote_agent.layout import Layout
from remote_agent.protocol.codec import MAX_PAYLOAD
from remote_agent.protocol.messages import from_payload
from remote_agent.protocol.snapshot import DIGEST, SnapshotEntry, canonical, check_entries
from remote_agent.protocol.values import ProtocolError
from remote_agent.sha import sha256

CHUNK = 1 << 20
LOCKED_S = 0.02


class SnapshotStore:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def missing(self, wanted: Iterable[Any]) -> Dict[str, int]:
        """Blobs that are not here -> how many of their bytes are (an upload that broke off).

        ``wanted``: digests, or [digest, size] pairs; a blob of another size is damaged and
        deleted.
        """
        absent = {}
        for row in wanted:
            digest, size = row if isinstance(row, list) and len(row) == 2 else (row, None)
            if not self._holds(_digest(digest), size):
                absent[digest] = _size(self.layout.partial_blob(digest))
        return absent

    def put_part(self, digest: str, offset: int, data: bytes, final: bool) -> Iterator[float]:
        """Write one part of a blob; a generator that yields between pieces of work, each time
        the seconds to wait. Several clients may send the same blob at once.

        Raises AgentFault ``wrong-offset`` when bytes before ``offset`` are missing and
        ``digest-mismatch`` when the whole is not what its name says (it is then deleted).
        """
        path = self.layout.blob(_digest(digest))
        if os.path.exists(path):
            return
        partial = self.layout.partial_blob(digest)
        fd = yield from _open_locked(partial)
        try:
            if os.path.exists(path):  # another client was faster
                os.unlink(partial)
                return
            _write_part(fd, offset, data, final)
            if final:
                yield from _verify(fd, partial, digest)
                make_private(os.path.dirname(path))
                os.rename(partial, path)
        finally:
            os.close(fd)

    def put_manifest(self, entries: Sequence[SnapshotEntry]) -> str:
        """Store a listing and return its digest.

        Raises AgentFault ``bad-manifest``, or ``missing-blobs`` when contents are not here;
        damaged ones have then been deleted, so that asking what is missing tells them.
        """
        try:
            check_entries(entries)
        except ProtocolError as error:
            raise AgentFault("bad-manifest", str(error)) from None
        absent = [entry.path for entry in entries if not self._has_content(entry)]
        if absent:
            raise AgentFault("missing-blobs", "%s: content is not here" % absent[0])
        data = canonical(entries)
        digest: str = sha256(data).hexdigest()
        path = self.layout.manifest(digest)
        if not os.path.exists(path):
            write_atomic(path, data)
        return digest

    def has_manifest(self, digest: str) -> bool:
        return os.path.exists(self.layout.manifest(_digest(digest)))

    def entries(self, digest: str) -> List[SnapshotEntry]:
        with open(self.layout.manifest(_digest(digest)), "rb") as file:
            return [SnapshotEntry.from_json(row) for row in from_payload(file.read(), MAX_PAYLOAD)]

    def materialise(
        self, digest: str, target: str, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Write the snapshot's files below ``target``, verifying every byte on the way.

        Raises CouldNotStart for a damaged blob (it is deleted, so the next upload heals it).
        Stops early when ``cancelled()``.
        """
        for entry in self.entries(digest):
            if cancelled():
                return
            path = os.path.join(target, entry.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if entry.target is not None:
                os.symlink(entry.target, path)
            else:
                self._copy(entry, path)

    def _has_content(self, entry: SnapshotEntry) -> bool:
        return entry.digest is None or self._holds(entry.digest, entry.size)

    def _holds(self, digest: str, size: Optional[int]) -> bool:
        """``size`` None: not known."""
        blob = self.layout.blob(digest)
        try:
            found = os.stat(blob).st_size
        except FileNotFoundError:
            return False
        if size is None or found == size:
            return True
        os.unlink(blob)  # damaged: nothing else would make anybody send it again
        return False

    def _copy(self, entry: SnapshotEntry, path: str) -> None:
        digest = _digest(entry.digest)
        blob = self.layout.blob(digest)
        actual = sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, entry.mode | 0o600)
        try:
            with open(blob, "rb") as source:
                for chunk in iter(lambda: source.read(CHUNK), b""):
                    actual.update(chunk)
                    write_all(fd, chunk)
            os.fchmod(fd, entry.mode)
        except FileNotFoundError:
            raise _damaged(entry) from None
        finally:
            os.close(fd)
        if actual.hexdigest() != digest:
            os.unlink(blob)
            raise _damaged(entry)


def _open_locked(partial: str) -> Generator[float, None, int]:
    """The locked descriptor of the file that bears this name now. Never blocks: the holder may
    be another request of this same process."""
    while True:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            yield LOCKED_S
            continue
        if _inode(partial) == os.fstat(fd).st_ino:
            return fd
        os.close(fd)


def _write_part(fd: int, offset: int, data: bytes, final: bool) -> None:
    """Bytes after the part stay until the final one: another client may have written them."""
    have = os.fstat(fd).st_size
    if not 0 <= offset <= have:
        raise AgentFault("wrong-offset", "%d bytes are here, not %d" % (have, offset))
    os.lseek(fd, offset, os.SEEK_SET)
    write_all(fd, data)
    if final:
        os.ftruncate(fd, offset + len(data))


def _verify(fd: int, partial: str, digest: str) -> Iterator[float]:
    """Make the bytes durable; delete them where they are not those of ``digest``."""
    actual = sha256()
    os.lseek(fd, 0, os.SEEK_SET)
    for chunk in iter(lambda: os.read(fd, CHUNK), b""):
        actual.update(chunk)
        yield 0.0
    if actual.hexdigest() != digest:
        os.unlink(partial)
        raise AgentFault("digest-mismatch", "the bytes sent are not those of %s" % digest)
    os.fsync(fd)


def _damaged(entry: SnapshotEntry) -> CouldNotStart:
    return CouldNotStart(
        "the stored content of %s is damaged or gone" % entry.path,
        "submit the job again: the file is then sent anew",
    )


def _digest(digest: object) -> str:
    if not isinstance(digest, str) or not DIGEST.match(digest):
        raise AgentFault("bad-request", "%r is not a sha256 digest" % (digest,))
    return digest


def _inode(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
