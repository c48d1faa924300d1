"""Code snapshots on disk: contents by sha256, listings by sha256, and a job's private copy."""

from __future__ import annotations

import os
from typing import Callable, Dict, Iterable, Iterator, List, Sequence

from remote_agent.faults import AgentFault, CouldNotStart
from remote_agent.files import make_private, write_all, write_atomic
from remote_agent.layout import Layout
from remote_agent.protocol.messages import from_payload
from remote_agent.protocol.snapshot import DIGEST, SnapshotEntry, canonical, check_entries
from remote_agent.protocol.values import ProtocolError
from remote_agent.sha import sha256

CHUNK = 1 << 20


class SnapshotStore:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def missing(self, digests: Iterable[str]) -> Dict[str, int]:
        """Blobs that are not here -> how many of their bytes are (an upload that broke off)."""
        absent = {}
        for digest in digests:
            if not os.path.exists(self.layout.blob(_digest(digest))):
                absent[digest] = _size(self.layout.partial_blob(digest))
        return absent

    def put_part(self, digest: str, offset: int, data: bytes, final: bool) -> Iterator[None]:
        """Write one part of a blob; a generator that yields between pieces of work.

        Raises AgentFault ``wrong-offset`` when bytes before ``offset`` are missing and
        ``digest-mismatch`` when the whole is not what its name says (it is then deleted).
        """
        path = self.layout.blob(_digest(digest))
        if os.path.exists(path):
            return
        partial = self.layout.partial_blob(digest)
        _write_part(partial, offset, data)
        if not final:
            return
        actual = sha256()
        with open(partial, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                actual.update(chunk)
                yield
        if actual.hexdigest() != digest:
            os.unlink(partial)
            raise AgentFault("digest-mismatch", "the bytes sent are not those of %s" % digest)
        make_private(os.path.dirname(path))
        os.rename(partial, path)

    def put_manifest(self, entries: Sequence[SnapshotEntry]) -> str:
        """Store a listing and return its digest.

        Raises AgentFault ``bad-manifest``, or ``missing-blobs`` when contents are not here.
        """
        try:
            check_entries(entries)
        except ProtocolError as error:
            raise AgentFault("bad-manifest", str(error)) from None
        for entry in entries:
            if entry.digest is not None and not self._holds(entry.digest, entry.size):
                raise AgentFault("missing-blobs", "%s: content is not here" % entry.path)
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
            return [SnapshotEntry.from_json(row) for row in from_payload(file.read())]

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

    def _holds(self, digest: str, size: int) -> bool:
        blob = self.layout.blob(digest)
        return os.path.exists(blob) and _size(blob) == size

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


def _write_part(partial: str, offset: int, data: bytes) -> None:
    have = _size(partial)
    if not 0 <= offset <= have:
        raise AgentFault("wrong-offset", "%d bytes are here, not %d" % (have, offset))
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, offset)
        os.lseek(fd, offset, os.SEEK_SET)
        write_all(fd, data)
    finally:
        os.close(fd)


def _damaged(entry: SnapshotEntry) -> CouldNotStart:
    return CouldNotStart(
        "the stored content of %s is damaged or gone" % entry.path,
        "submit the job again: the file is then sent anew",
    )


def _digest(digest: object) -> str:
    if not isinstance(digest, str) or not DIGEST.match(digest):
        raise AgentFault("bad-request", "%r is not a sha256 digest" % (digest,))
    return digest


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
