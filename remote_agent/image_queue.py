"""The dispatcher's part in getting images: which jobs still need theirs, and who gets it."""

from __future__ import annotations

import time
from typing import Callable, Dict

from remote_agent.faults import AgentFault
from remote_agent.files import try_lock
from remote_agent.layout import Layout
from remote_agent.protocol.job import JobRecord
from remote_agent.starter import start_preparation
from remote_agent.store import JobStore

START_AGAIN_S = 10.0
"""A process that gets an image, and was killed, is not started more often than that."""


class ImageQueue:
    """``start`` starts the process that gets the image of a job."""

    def __init__(
        self,
        store: JobStore,
        start: Callable[[Layout, str], None] = start_preparation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._start = start
        self._clock = clock
        self._started: Dict[str, float] = {}

    def is_ready(self, record: JobRecord) -> bool:
        """Does the host have the image of this job, as far as that was planned?"""
        try:
            return self._store.image_is_ready(record)
        except AgentFault:
            return False

    def is_prepared_now(self, record: JobRecord) -> bool:
        """Is a process at work that gets the image, and tells how far it is?"""
        return not self.is_ready(record) and self._is_at_work(record.job_id)

    def is_abandoned(self, job_id: str) -> bool:
        """Does nobody get the image, and has nobody been started for that just now?"""
        now = self._clock()
        last = self._started.get(job_id, now - START_AGAIN_S)
        return now - last >= START_AGAIN_S and not self._is_at_work(job_id)

    def prepare(self, record: JobRecord) -> None:
        """Make sure that somebody gets the image. Raises OSError."""
        if self.is_abandoned(record.job_id):
            self._started[record.job_id] = self._clock()
            self._start(self._store.layout, record.job_id)

    def _is_at_work(self, job_id: str) -> bool:
        """Also True for a job that was removed just now: there is nothing more to do."""
        try:
            with try_lock(self._store.layout.job(job_id).preparer_lock) as free:
                return not free
        except FileNotFoundError:
            return True
