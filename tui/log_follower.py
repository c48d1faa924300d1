"""Follows one job's log over its host's feed, across lost links, without gaps or repeats."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from provisioner.errors import TransportError
from remote_agent.protocol.job import JobRecord
from tui.feeds import Client, HostFeed, LogChunk, failure_of, spawn
from tui.log_stream import BACKLOG

READ_LIMIT = 256 * 1024
POLL_S = 5.0
"""How long the host may hold a request for new bytes."""
AWAIT_S = 0.5
FAR_BEHIND = 8 * 1024 * 1024
"""Further behind than this, the follower goes on at the newest BACKLOG bytes."""
IN_FLIGHT = 1024 * 1024
"""Bytes that may wait to be shown before the follower stops reading."""


@dataclass(frozen=True)
class JobKey:
    host: str
    job_id: str


@dataclass(frozen=True)
class LogArrived:
    key: JobKey
    offset: int
    data: bytes
    size: int
    record: JobRecord


@dataclass(frozen=True)
class LogWaiting:
    """The log cannot be read at the moment; ``at`` is the offset where it will go on."""

    key: JobKey
    reason: str
    at: int


@dataclass(frozen=True)
class LogEnded:
    """Nothing more will come: the job ended and its log was read, or ``reason`` says why."""

    key: JobKey
    reason: str = ""


LogMessage: TypeAlias = "LogArrived | LogWaiting | LogEnded"


class LogFollower:
    """Reads in a thread of its own from ``start`` until ``stop`` or the end of the log.

    ``shown(n)`` must be called when ``n`` bytes of what was posted have been taken in.
    """

    def __init__(
        self,
        feed: HostFeed,
        job_id: str,
        post: Callable[[LogMessage], None],
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self.key = JobKey(feed.host.name, job_id)
        self._feed = feed
        self._post = post
        self._poll_s = poll_s
        self._offset = -BACKLOG
        self._stopped = False
        self._in_flight = 0
        self._flow = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = spawn(f"log {self.key.job_id}", self._run)

    def stop(self) -> threading.Thread | None:
        """Ends it without waiting; returns the thread."""
        with self._flow:
            self._stopped = True
            self._flow.notify_all()
        return self._thread

    def shown(self, count: int) -> None:
        with self._flow:
            self._in_flight -= count
            self._flow.notify_all()

    def _run(self) -> None:
        failed: Client | None = None
        while not self._stopped:
            client = self._feed.await_client(failed, AWAIT_S)
            if client is None:
                client = self._feed.client()
            if client is None:
                continue
            failed = self._follow(client)
            if failed is None:
                return

    def _follow(self, client: Client) -> Client | None:
        """Reads until nothing more will come (None) or the link fails (the failed client)."""
        try:
            while not self._stopped and self._step(client):
                pass
        except TransportError as error:
            self._tell(LogWaiting(self.key, failure_of(error).reason, max(0, self._offset)))
            return client
        except Exception as error:  # shown in the log panel
            self._tell(LogEnded(self.key, failure_of(error).reason))
        return None

    def _step(self, client: Client) -> bool:
        """Reads one piece. False at the end of a log that will not grow."""
        chunk = client.read_log(
            self.key.job_id, self._offset, limit=READ_LIMIT, wait_s=self._poll_s
        )
        end = chunk.offset + len(chunk.data)
        self._send(chunk)
        self._offset = end
        if chunk.size < end:  # the job made its log shorter
            self._offset = max(0, chunk.size - BACKLOG)
            return True
        if chunk.size - end > FAR_BEHIND:
            self._offset = chunk.size - BACKLOG
        if chunk.record.is_final and end >= chunk.size:
            self._tell(LogEnded(self.key))
            return False
        return True

    def _send(self, chunk: LogChunk) -> None:
        with self._flow:
            self._flow.wait_for(lambda: self._stopped or self._in_flight < IN_FLIGHT)
            self._in_flight += len(chunk.data)
        self._tell(LogArrived(self.key, chunk.offset, chunk.data, chunk.size, chunk.record))

    def _tell(self, message: LogMessage) -> None:
        if not self._stopped:
            self._post(message)
