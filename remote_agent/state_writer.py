"""What a supervisor knows of its job, brought to disk: at once, or as soon as the disk takes it."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict

from remote_agent.disk import Complaints
from remote_agent.faults import AgentFault
from remote_agent.protocol.job import (
    DAMAGED,
    RUNNING,
    TRANSITIONS,
    JobSpec,
    Verdict,
)
from remote_agent.store import JobStore

RETRY_WRITE_S = 5.0


class StateWriter:
    """The only one that changes the state of a job while its supervisor lives, so records that
    were damaged meanwhile are written anew from what it knows."""

    def __init__(
        self,
        store: JobStore,
        job_id: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._sleep = sleep
        self._clock = clock
        self._known = store.details(job_id)
        self._spec: JobSpec = store.record(job_id).spec
        self._pending: Dict[str, Any] = {}
        self._retry_at = 0.0
        self._complaints = Complaints()

    def note(self, **changes: Any) -> None:
        """Remember changes and write them; on a full disk :meth:`keep_up` does it later."""
        self._pending.update(changes)
        self._retry_at = 0.0
        self.keep_up()

    def running(self, **changes: Any) -> None:
        self.note(state=RUNNING, **changes)

    def keep_up(self) -> None:
        """Write what could not be written; repair what was damaged. Call often: it is cheap."""
        if self._clock() < self._retry_at:
            return
        try:
            self._write_pending()
            self._repair()
        except (OSError, AgentFault) as error:  # AgentFault: somebody deleted its directory
            self._retry_at = self._clock() + RETRY_WRITE_S
            self._complaints.say("cannot write the state of %s yet: %s" % (self._job_id, error))

    def conclude(self, state: str, verdict: Verdict) -> None:
        """Write the final state; on a full disk try until there is room again, or until the job's
        directory is gone."""
        changes = {"verdict": verdict.to_json(), "ended_at": time.time()}
        while os.path.isdir(self._store.layout.job(self._job_id).root):
            try:
                self._repair()
                self._write_pending()
                return self._advance(state, changes)
            except (OSError, AgentFault) as error:
                said = "cannot write how %s ended yet: %s" % (self._job_id, error)
                self._complaints.say(said)
                self._sleep(RETRY_WRITE_S)
        return None

    def _advance(self, state: str, changes: Dict[str, Any]) -> None:
        try:
            if state not in TRANSITIONS[self._state()] and RUNNING in TRANSITIONS[self._state()]:
                self._store.transition(self._job_id, RUNNING)
            self._store.transition(self._job_id, state, **changes)
        except AgentFault as fault:
            if fault.code == "damaged-job":
                raise OSError(fault.message) from None
            return  # reconciled as lost meanwhile

    def _write_pending(self) -> None:
        if not self._pending:
            return
        changes = dict(self._pending)
        state = changes.pop("state", None)
        self._known.update(self._pending)
        try:
            if state is not None and self._state() != state:
                self._store.transition(self._job_id, state, **changes)
            else:
                self._store.take_over(self._job_id, lambda _: True, **changes)
        except AgentFault as fault:
            if fault.code == "damaged-job":
                return  # repaired with all that is known, these changes included
        self._pending.clear()

    def _repair(self) -> None:
        if self._store.record(self._job_id).state != DAMAGED:
            return
        if self._store.repair(self._job_id, self._known, self._spec, lambda: True):
            self._complaints.say("wrote the damaged records of %s anew" % self._job_id)
            self._pending.clear()

    def _state(self) -> str:
        state: str = self._store.details(self._job_id)["state"]
        return state
