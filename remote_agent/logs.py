"""Reading a job's log by offset, byte for byte, waiting for more."""

from __future__ import annotations

import os
import time
from typing import Callable

from remote_agent.faults import AgentFault
from remote_agent.protocol.job import DAMAGED, JobRecord
from remote_agent.store import JobStore
from remote_agent.tasks import Answer, Steps, Wait

MAX_CHUNK = 1 << 20
QUICK_S = 0.02
SLOW_S = 0.1
DAMAGED_WAIT_S = 1.0
"""A supervisor that lives repairs its job's records as soon as it notices."""
QUIET_AFTER_S = 5.0
"""A log that was silent for this long is looked at every SLOW_S instead of QUICK_S."""


def read_log(
    store: JobStore,
    job_id: str,
    offset: int,
    limit: int,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    look_after: Callable[[], None] = lambda: None,
) -> Steps:
    """Answers with bytes from ``offset`` as soon as there are any, or empty when the job is
    final or ``wait_s`` is over, and empty at once where the log is shorter than ``offset``. A
    negative offset counts from the end.
    ``look_after`` is called often: it corrects the record of a job whose supervisor was killed,
    which would never become final."""
    if not limit > 0:
        raise AgentFault("bad-request", "limit must be positive, not %d" % limit)
    path = store.layout.job(job_id).log
    began = clock()
    while True:
        look_after()
        record = store.record(job_id)  # before the bytes: a final record means a complete log
        size = _size(path)
        start = max(0, size + offset) if offset < 0 else offset
        if start > size:  # the job made its log shorter: the reader begins anew
            return _answer(record, start, size, b"")
        if start < size:
            return _answer(record, start, size, _read(path, start, min(limit, MAX_CHUNK)))
        waited = clock() - began
        if record.state == DAMAGED and wait_s > 0 and waited >= min(wait_s, DAMAGED_WAIT_S):
            raise AgentFault("damaged-job", _damage(record))
        if record.is_final or waited >= wait_s:
            return _answer(record, start, size, b"")
        if offset < 0:
            offset = start
        pause = QUICK_S if waited < QUIET_AFTER_S else SLOW_S
        yield Wait(min(pause, wait_s - waited))


def _damage(record: JobRecord) -> str:
    """Nobody knows when a job with such records ends, so nobody can follow it to its end."""
    verdict = record.verdict
    said = "%s; %s" % (verdict.evidence, verdict.hint) if verdict else "no reason known"
    return "job %s is damaged: %s" % (record.job_id, said)


def _answer(record: JobRecord, start: int, size: int, data: bytes) -> Answer:
    return {"offset": start, "size": size, "record": record.to_json()}, data


def _read(path: str, start: int, limit: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, limit, start)
    finally:
        os.close(fd)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
