"""Talk to the agent of one host: typed calls over one byte session, from any thread."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from provisioner.agent.footprint import footprint
from provisioner.agent.link import CALL_TIMEOUT_S, AgentLink
from provisioner.agent.watch import Watch
from provisioner.errors import AgentError
from provisioner.transport.base import Session
from remote_agent.protocol.job import JobRecord, JobSpec
from remote_agent.protocol.messages import (
    Hello,
    Reply,
    from_payload,
    rows_from_payload,
    to_payload,
)
from remote_agent.protocol.sample import MAX_SAMPLE, Sample
from remote_agent.protocol.snapshot import (
    FILE,
    OUTPUTS_PAGE,
    OUTPUTS_PAGE_TEXT,
    OutputFile,
    SnapshotEntry,
    canonical,
    check_entries,
)
from remote_agent.protocol.values import ProtocolError, Value, check_count

LOG_LIMIT = 262144
OUTPUT_LIMIT = 1 << 20
MAX_LISTING = 150 << 20
"""Bytes of memory for the list of one job's outputs: some 300,000 files."""
LOG_ATTEMPTS = 3
"""For bytes of a log that are said to be there and do not come: the job may have cut it."""
NUMBER = re.compile(r"-?[0-9]{1,20}")
PART = 4 << 20
"""Bytes of a blob per message."""
PARTS_IN_FLIGHT = 4


@dataclass(frozen=True)
class LogPlace(Value):
    """Where a part of a log begins, and how long the log is, in bytes."""

    offset: int
    size: int

    def check(self) -> None:
        check_count(self.offset, "offset")
        check_count(self.size, "size")


@dataclass(frozen=True)
class MissingBlobs(Value):
    """Digest -> bytes that are there already."""

    blobs: dict[str, int]

    def check(self) -> None:
        for count in self.blobs.values():
            check_count(count, "bytes")


@dataclass(frozen=True)
class Identity:
    """A version of a file on the host: see ``identity`` in ``remote_agent/outputs.py``."""

    size: int
    modified_ns: int


def read_identity(text: str) -> Identity:
    """Raises ProtocolError."""
    parts = text.split(":")
    if len(parts) != 5 or not all(NUMBER.fullmatch(part) for part in parts):
        raise ProtocolError(f"{text[:80]!r} is not the identity of a file")
    return Identity(int(parts[2]), int(parts[3]))


@dataclass(frozen=True)
class OutputPart(Value):
    """Bytes of an output file of one version. ``hole``: so many bytes of zeros come instead.
    ``whole``: these bytes are the file, and nobody changed it meanwhile."""

    identity: str
    size: int
    data: bytes = field(repr=False)
    hole: int = 0
    whole: bool = False

    def check(self) -> None:
        if read_identity(self.identity).size != self.size:
            raise ProtocolError("a file of two sizes")
        check_count(self.hole, "hole", self.size)


@dataclass(frozen=True)
class OutputHash(Value):
    """``sha256`` in hex digits, of a part of a file of this version."""

    sha256: str
    identity: str

    def check(self) -> None:
        read_identity(self.identity)


@dataclass(frozen=True)
class LogChunk:
    """``data`` are the log's bytes from ``offset``; ``size`` is the whole log's length when it
    was read. The log is complete when ``record.is_final`` and ``next_offset == size``."""

    offset: int
    data: bytes = field(repr=False)
    size: int
    record: JobRecord

    @property
    def next_offset(self) -> int:
        return self.offset + len(self.data)

    @property
    def is_last(self) -> bool:
        return self.record.is_final and self.next_offset >= self.size


class AgentClient:
    """Safe to use from several threads at once.

    ``on_close``, when set, is called after the session was closed by :meth:`close` (the owner of
    a connection that serves this one agent closes it there).

    Every call may raise AgentError (the agent refused; ``code`` says why), ConnectionLost (the
    link broke: all waiting calls raise it at once) or CommandTimeout (no answer in time).
    """

    def __init__(
        self, session: Session, host_name: str, *, call_timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        """Waits for the agent's hello. Raises ConnectionLost, AgentError (no agent there, or
        something else speaks), CommandTimeout."""
        self.host_name = host_name
        self.on_close: Callable[[], None] | None = None
        self._link = AgentLink(session, host_name, call_timeout_s=call_timeout_s)

    @property
    def hello(self) -> Hello:
        return self._link.hello

    def submit(self, spec: JobSpec) -> JobRecord:
        """Queue a job; the same spec again changes nothing and returns the existing job.

        AgentError codes: ``bad-spec``, ``job-exists`` (same id, another spec).
        """
        return self._record(self._link.call("submit", {"spec": spec.to_json()}), spec.job_id)

    def jobs(self) -> tuple[JobRecord, ...]:
        """All jobs on the host, oldest first."""
        with self._understood():
            reply = self._link.call("jobs")
            records = tuple(JobRecord.from_json(row) for row in rows_from_payload(reply.payload))
        if len({record.job_id for record in records}) < len(records):
            raise self._nonsense("it lists a job twice")
        return records

    def job(self, job_id: str) -> JobRecord:
        return self._record(self._link.call("job", {"job_id": job_id}), job_id)

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> JobRecord:
        """End a job: SIGTERM to all its processes, SIGKILL after ``grace_s`` seconds. Returns
        when it is over; a job that is over already is returned as it is."""
        arguments = {"job_id": job_id, "grace_s": grace_s}
        reply = self._link.call("stop", arguments, timeout_s=grace_s + self._link.call_timeout_s)
        return self._record(reply, job_id)

    def remove(self, job_id: str) -> None:
        """Delete a finished job, its log and its outputs."""
        self._link.call("remove", {"job_id": job_id})

    def sample(self) -> Sample:
        with self._understood():
            return Sample.from_json(from_payload(self._link.call("sample").payload, MAX_SAMPLE))

    def watch(self, interval_s: float = 2.0) -> Watch:
        """Samples every ``interval_s`` seconds and the job list whenever it changes."""
        return Watch(self._link, interval_s)

    def read_log(
        self, job_id: str, offset: int, *, limit: int = LOG_LIMIT, wait_s: float = 0.0
    ) -> LogChunk:
        """Bytes from ``offset`` (negative: from the end), waiting up to ``wait_s`` seconds for
        the first of them; empty when there are none yet, or no more."""
        arguments = {"job_id": job_id, "offset": offset, "limit": limit, "wait_s": wait_s}
        for _ in range(LOG_ATTEMPTS):
            chunk = self._read_log(arguments, wait_s + self._link.call_timeout_s)
            if (offset >= 0 and chunk.offset != offset) or len(chunk.data) > limit:
                raise self._nonsense(f"asked for the log from byte {offset}, got {chunk.offset}")
            if chunk.data or chunk.offset >= chunk.size:
                return chunk
        raise self._nonsense(f"a log of {chunk.size} bytes, and none from byte {chunk.offset} on")

    def _read_log(self, arguments: dict[str, Any], timeout_s: float) -> LogChunk:
        reply = self._link.call("read_log", arguments, timeout_s=timeout_s)
        with self._understood():
            told = LogPlace.from_json(reply.result)
        record = self._record(reply, arguments["job_id"])
        return LogChunk(told.offset, reply.payload, told.size, record)

    def list_outputs(self, job_id: str) -> tuple[OutputFile, ...]:
        """All files below the job's outputs, however many, sorted by name."""
        found: list[OutputFile] = []
        memory = 0
        while True:
            after = found[-1].path if found else ""
            reply = self._link.call("list_outputs", {"job_id": job_id, "after": after})
            with self._understood():
                page = [OutputFile.from_json(row) for row in rows_from_payload(reply.payload)]
                for output in page:
                    if output.kind == FILE and read_identity(output.identity).size != output.size:
                        raise ProtocolError("a file of two sizes")
            self._check_page(after, page)
            found += page
            memory += footprint(page)
            if memory > MAX_LISTING:
                raise self._nonsense(f"its list of over {len(found):,} outputs is too large")
            if reply.result.get("more") is not True:
                return tuple(found)
            if not _is_full(page):
                raise self._nonsense("its list of outputs comes in too many parts")

    def _check_page(self, after: str, page: Sequence[OutputFile]) -> None:
        """Pages go on from the last path, so a list always comes to an end."""
        places = [after.split("/"), *(output.path.split("/") for output in page)]
        for before, following in itertools.pairwise(places):
            if before != [""] and following <= before:
                raise self._nonsense("its list of outputs does not advance")

    def read_output(
        self, job_id: str, path: str, offset: int = 0, limit: int = OUTPUT_LIMIT
    ) -> OutputPart:
        """Up to ``limit`` bytes of an output file; without bytes and hole at its end.

        AgentError codes: ``no-such-output``, ``outside-outputs``, ``io-error``.
        """
        arguments = {"job_id": job_id, "path": path, "offset": offset, "limit": limit}
        reply = self._link.call("read_output", arguments)
        with self._understood():
            part = OutputPart.from_json({**reply.result, "data": reply.payload})
        if len(part.data) > limit or offset + part.hole + len(part.data) > part.size:
            raise self._nonsense(f"more bytes of {path!r} than there are")
        return part

    def hash_output(self, job_id: str, path: str, offset: int, length: int) -> OutputHash:
        """The SHA-256 of a part of an output file. AgentError codes as for :meth:`read_output`."""
        arguments = {"job_id": job_id, "path": path, "offset": offset, "length": length}
        with self._understood():
            return OutputHash.from_json(self._link.call("hash_output", arguments).result)

    def missing_blobs(
        self, digests: Iterable[str], sizes: Mapping[str, int] | None = None
    ) -> tuple[str, ...]:
        """Those of ``digests`` whose content is not on the host, in the given order."""
        return tuple(self.partial_blobs(digests, sizes))

    def partial_blobs(
        self, digests: Iterable[str], sizes: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Like :meth:`missing_blobs`, with how many bytes of each an upload that broke off has
        left there. ``sizes``: digest -> bytes; content of another size is damaged and counts as
        missing."""
        known = sizes or {}
        wanted = [
            [digest, known[digest]] if digest in known else digest
            for digest in dict.fromkeys(digests)
        ]
        reply = self._link.call("missing_blobs", payload=to_payload(wanted))
        with self._understood():
            absent = MissingBlobs.from_json({"blobs": from_payload(reply.payload)}).blobs
        asked = {digest if isinstance(digest, str) else digest[0] for digest in wanted}
        if not asked.issuperset(absent):
            raise self._nonsense("it misses content that nobody offered")
        return absent

    def put_blob(self, digest: str, content: bytes | BinaryIO, *, offset: int = 0) -> None:
        """Send one blob, from ``offset`` on when the host has the bytes before it.

        Parts are sent without waiting for each answer. AgentError codes: ``digest-mismatch``,
        ``wrong-offset``.
        """
        waiting: list[Any] = []
        for position, part, final in _parts(content, offset):
            arguments = {"digest": digest, "offset": position, "final": final}
            waiting.append(self._link.begin("put_blob", arguments, part))
            if len(waiting) > PARTS_IN_FLIGHT:
                self._link.finish(waiting.pop(0))
        for call in waiting:
            self._link.finish(call)

    def put_blobs(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """Send many small blobs, (sha256, content), without waiting for each answer."""
        waiting: list[Any] = []
        in_flight = 0
        for digest, data in blobs:
            arguments = {"digest": digest, "offset": 0, "final": True}
            waiting.append((self._link.begin("put_blob", arguments, data), len(data)))
            in_flight += len(data)
            while waiting and (in_flight > PARTS_IN_FLIGHT * PART or len(waiting) > 256):
                call, size = waiting.pop(0)
                self._link.finish(call)
                in_flight -= size
        for call, _ in waiting:
            self._link.finish(call)

    def put_manifest(self, entries: Sequence[SnapshotEntry]) -> str:
        """Store a snapshot's listing; returns the digest for :attr:`JobSpec.snapshot`.

        AgentError codes: ``bad-manifest``, ``missing-blobs``.
        """
        try:
            check_entries(entries)
        except ProtocolError as error:
            raise AgentError(str(error), code="bad-manifest", host=self.host_name) from None
        rows = [entry.to_json() for entry in entries]
        reply = self._link.call("put_manifest", payload=to_payload(rows))
        expected = hashlib.sha256(canonical(entries)).hexdigest()
        if reply.result.get("digest") != expected:
            raise self._nonsense("it stored another snapshot than the one it got")
        return expected

    def close(self) -> None:
        """End the session; the host's jobs go on. May be called twice."""
        self._link.close()
        if self.on_close is not None:
            self.on_close()

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _record(self, reply: Reply, job_id: str) -> JobRecord:
        """The record in a reply, which must be about the job that was asked for."""
        with self._understood():
            record = JobRecord.from_json(reply.result.get("record"))
        if record.job_id != job_id:
            raise self._nonsense(f"asked for job {job_id}, got {record.job_id}")
        return record

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What the agent says and this side cannot understand is an error of that host."""
        try:
            yield
        except ProtocolError as error:
            raise self._nonsense(str(error)) from error

    def _nonsense(self, what: str) -> AgentError:
        return AgentError(
            f"the agent's answer makes no sense: {what}",
            code="protocol",
            host=self.host_name,
            remedy="provision the host again; if that does not help, do not trust the host",
        )


def _is_full(page: Sequence[OutputFile]) -> bool:
    text = sum(output.text_length for output in page)
    return len(page) >= OUTPUTS_PAGE or text >= OUTPUTS_PAGE_TEXT


def _parts(content: bytes | BinaryIO, offset: int) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, bytes, is the last) for each message; an empty blob is one empty part."""
    if isinstance(content, bytes):
        for start in range(offset, max(len(content), offset + 1), PART):
            yield start, content[start : start + PART], start + PART >= len(content)
        return
    content.seek(offset)
    part = content.read(PART)
    while True:
        following = content.read(PART) if part else b""
        yield offset, part, not following
        if not following:
            return
        offset += len(part)
        part = following
