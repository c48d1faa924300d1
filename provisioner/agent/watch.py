"""A stream of samples and job lists from one host."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.agent.footprint import footprint
from provisioner.agent.link import AgentLink
from remote_agent.protocol.job import JobRecord
from remote_agent.protocol.messages import Event, from_payload
from remote_agent.protocol.sample import MAX_SAMPLE, Sample
from remote_agent.protocol.values import ProtocolError, Value

Update = Sample | tuple[JobRecord, ...]

MAX_MEMORY = 48 << 20
"""Bytes that the job list of one host may take here: some 15,000 jobs."""


@dataclass(frozen=True)
class JobChanges(Value):
    """What changed in the job list since the last event."""

    changed: tuple[JobRecord, ...]
    removed: tuple[str, ...]


class Watch:
    """Iterate to get each :class:`Sample`, and the whole job list (oldest first) at first and
    whenever it changed. A reader that falls behind gets only the newest of each kind.

    Iteration ends after :meth:`close`; it raises ConnectionLost when the link broke, and
    AgentError when the agent refused.
    """

    def __init__(self, link: AgentLink, interval_s: float) -> None:
        self._link = link
        self._changed = threading.Condition()
        self._updates: deque[Update] = deque()
        self._jobs: dict[str, JobRecord] = {}
        self._sizes: dict[str, int] = {}
        self._ended = False
        self._closed = False
        self._call = link.begin(
            "watch", {"interval_s": interval_s}, on_event=self._receive, on_end=self._end
        )

    def __iter__(self) -> Iterator[Update]:
        while (update := self.next()) is not None:
            yield update

    def next(self, timeout_s: float | None = None) -> Update | None:
        """The next update; None after close, or when ``timeout_s`` seconds brought none."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._updates or self._ended or self._closed, timeout=timeout_s
            )
            if self._closed:
                return None
            if self._updates:
                return self._updates.popleft()
            ended = self._ended
        if ended:
            self._link.finish(self._call, timeout_s=0.0)
        return None

    def close(self) -> None:
        """Stop watching; wakes a blocked reader. May be called twice, from any thread."""
        with self._changed:
            was_closed, self._closed = self._closed, True
            self._changed.notify_all()
        if was_closed:
            return
        self._link.forget(self._call)
        if self._link.problem() is None:
            unwatch = self._link.begin("unwatch", {"watch": self._call.request.id})
            self._link.forget(unwatch)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _receive(self, event: Event) -> None:
        update: Update
        if event.kind == "sample":
            update = Sample.from_json(from_payload(event.payload, MAX_SAMPLE))
        else:
            update = self._merge(JobChanges.from_json(from_payload(event.payload)))
        with self._changed:
            self._updates = deque(old for old in self._updates if type(old) is not type(update))
            self._updates.append(update)
            self._changed.notify_all()

    def _merge(self, told: JobChanges) -> tuple[JobRecord, ...]:
        for record in told.changed:
            self._jobs[record.job_id] = record
            self._sizes[record.job_id] = footprint(record)
        for job_id in told.removed:
            self._jobs.pop(job_id, None)
            self._sizes.pop(job_id, None)
        if sum(self._sizes.values()) > MAX_MEMORY:
            raise ProtocolError(f"a list of {len(self._jobs):,} jobs takes too much memory")
        return tuple(sorted(self._jobs.values(), key=lambda job: job.order))

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
