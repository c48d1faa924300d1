"""Stopping a job that has a supervisor: ask it, wait for it, answer with what became of it."""

from __future__ import annotations

import os
import signal
import time
from typing import Callable

from remote_agent.files import read_json, write_json
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity, is_alive
from remote_agent.store import JobStore
from remote_agent.tasks import Steps, Wait

POLL_S = 0.03
ASK_AGAIN_S = 1.0
DEFAULT_GRACE_S = 10.0
MARGIN_S = 20.0
"""What a supervisor may need beyond the grace period: killing, container clean-up, disk."""


def ask_to_stop(paths: JobPaths, grace_s: float) -> None:
    """Leave the request where the supervisor looks. On a full disk it is an empty file, or
    another name of a file that is there: what counts is that it exists."""
    try:
        write_json(paths.stop, {"grace_s": grace_s, "asked_at": time.time()})
    except OSError:
        _leave_bare_request(paths)


def requested_grace(paths: JobPaths) -> float:
    """Seconds; :data:`DEFAULT_GRACE_S` where the request could not say."""
    try:
        return float(read_json(paths.stop).get("grace_s", DEFAULT_GRACE_S))
    except (OSError, ValueError, TypeError):
        return DEFAULT_GRACE_S


def _leave_bare_request(paths: JobPaths) -> None:
    try:
        os.close(os.open(paths.stop, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        if not os.path.exists(paths.stop):
            os.link(paths.spec, paths.stop)


def stop_running(
    store: JobStore, job_id: str, grace_s: float, reconcile: Callable[[], None]
) -> Steps:
    """The stop request is already on disk; answers when the job is final, or with its current
    record when that takes longer than the grace period allows."""
    deadline = time.monotonic() + grace_s + MARGIN_S
    ask_at = 0.0
    while True:
        record = store.record(job_id)
        if record.is_final or time.monotonic() >= deadline:
            return {"record": record.to_json()}, b""
        if time.monotonic() >= ask_at:
            ask_at = time.monotonic() + ASK_AGAIN_S
            _wake(store, job_id)
            reconcile()
        yield Wait(POLL_S)


def _wake(store: JobStore, job_id: str) -> None:
    told = store.details(job_id).get("supervisor")
    if told is None or not is_alive(Identity.from_json(told)):
        return
    try:
        os.kill(told["pid"], signal.SIGUSR1)
    except ProcessLookupError:
        return  # it ended just now; reconciling sorts that out
