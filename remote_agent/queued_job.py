"""A queued job, as the process that gets its image sees it: is it still wanted, and what are
people told meanwhile?"""

from __future__ import annotations

import os
import time
from typing import Callable

from remote_agent.docker_client import LOOK_S
from remote_agent.faults import AgentFault, complain
from remote_agent.protocol.job import QUEUED, STOPPED, Verdict
from remote_agent.store import JobStore

NOTE_S = 2.0
"""The state is not written more often."""


class Stopped(Exception):
    """The job waits no longer: somebody stopped or removed it."""


class QueuedJob:
    """``clock`` and ``sleep`` are replaced in tests."""

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.job_id = job_id
        self.clock = clock
        self._store = store
        self._paths = store.layout.job(job_id)
        self._sleep = sleep
        self._said = ""
        self._note_at = 0.0

    def look(self) -> None:
        """Raises Stopped when the job waits no longer."""
        try:
            waits = self._store.record(self.job_id).state == QUEUED
        except AgentFault:
            raise Stopped from None
        if waits and os.path.exists(self._paths.stop):
            verdict = Verdict("stopped-by-user", evidence="stopped before it started")
            self.conclude(STOPPED, verdict)
            waits = False
        if not waits:
            raise Stopped

    def say(self, text: str) -> None:
        """Why it waits, for people; at most once in :data:`NOTE_S`. Told often, so that the last
        one is written as well."""
        if text == self._said or self.clock() < self._note_at:
            return
        self._said, self._note_at = text, self.clock() + NOTE_S
        try:
            self._store.note_waiting(self.job_id, text)
        except (AgentFault, OSError) as error:  # removed meanwhile, or the disk is full
            complain("%s: %s: %s" % (self.job_id, text, error))

    def pause(self, seconds: float, said: str) -> None:
        """Wait, telling people why."""
        deadline = self.clock() + seconds
        while self.clock() < deadline:
            self.look()
            self.say(said)
            self._sleep(LOOK_S)

    def conclude(self, state: str, verdict: Verdict) -> None:
        try:
            self._store.transition(self.job_id, state, verdict=verdict.to_json())
        except AgentFault:
            return  # stopped or removed meanwhile
        except OSError as error:
            complain("%s is %s, which cannot be written yet: %s" % (self.job_id, state, error))
