"""Stopping a job that has a supervisor: ask it, wait for it, answer with what became of it."""

from __future__ import annotations

import os
import signal
import time
from typing import Callable

from remote_agent.processes import Identity, is_alive
from remote_agent.store import JobStore
from remote_agent.tasks import Steps, Wait

POLL_S = 0.03
ASK_AGAIN_S = 1.0
MARGIN_S = 20.0
"""What a supervisor may need beyond the grace period: killing, container clean-up, disk."""


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
