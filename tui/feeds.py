"""One worker thread per host: connect, watch, and connect again, for as long as it takes.

Threads are daemons and are never waited for without a limit: a host that hangs cannot keep the
dashboard from closing, nor slow another host down.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from inventory.model import Host
from provisioner.errors import AuthError, BlockedError, RigupError
from remote_agent.protocol.job import JobRecord
from remote_agent.protocol.sample import Sample
from tui.state import (
    HostConnecting,
    HostOffline,
    HostOnline,
    JobsArrived,
    Message,
    SampleArrived,
)
from tui.text import clean, clean_lines

CLOSE_WAIT_S = 0.4
SILENCE_S = 20.0
"""A link that brings nothing for this long is given up, whatever the socket says."""


class LogChunk(Protocol):
    """Bytes of a log from ``offset``; ``size`` is the whole log's length so far."""

    @property
    def offset(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def record(self) -> JobRecord: ...


class Watch(Protocol):
    """An endless iterator that ``close`` ends."""

    def __iter__(self) -> Iterator[Sample | tuple[JobRecord, ...]]: ...
    def close(self) -> None: ...


class Client(Protocol):
    """What the dashboard needs of ``provisioner.agent.client.AgentClient``.

    Every method raises RigupError subclasses; ``read_log`` may be called while a watch runs.
    """

    def jobs(self) -> tuple[JobRecord, ...]: ...
    def watch(self, interval_s: float) -> Watch: ...
    def read_log(
        self, job_id: str, offset: int, *, limit: int = ..., wait_s: float = ...
    ) -> LogChunk: ...
    def stop(self, job_id: str, *, grace_s: float = ...) -> JobRecord: ...
    def close(self) -> None: ...


Connect = Callable[[Host], Client]
Post = Callable[[Message], None]


@dataclass(frozen=True)
class Backoff:
    """Seconds before the next attempt: doubling, capped, spread by ``jitter`` (a share).

    Where a person must act first (unknown host key, no login), attempts are rare: sshd and
    fail2ban count them.
    """

    first_s: float = 1.0
    most_s: float = 30.0
    blocked_s: float = 60.0
    jitter: float = 0.25

    def delay(self, attempt: int, *, blocked: bool, chance: float) -> float:
        """``attempt`` counts failures in a row from 1; ``chance`` is uniform in 0..1."""
        calm = min(self.most_s, self.first_s * 2 ** min(attempt - 1, 16))
        return (self.blocked_s if blocked else calm) * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True)
class Failure:
    reason: str
    remedy: str = ""
    blocked: bool = False


def failure_of(error: Exception) -> Failure:
    """A failure in words that are safe to show."""
    if isinstance(error, RigupError):
        remedy = "; ".join(clean_lines(error.remedy or ""))
        reason = "; ".join(clean_lines(error.message)) or type(error).__name__
        return Failure(reason, remedy, isinstance(error, (AuthError, BlockedError)))
    return Failure(f"{type(error).__name__}: {clean(error)}")


@dataclass
class _Session:
    """The life of one worker thread; once ``ended``, nothing of it is heard any more.

    ``opened`` is any open link, ``client`` the same once it has answered.
    """

    ended: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    opened: Client | None = None
    client: Client | None = None
    heard_at: float | None = None
    was_online: bool = False


class HostFeed:
    """Keeps one host's link alive and posts what it brings.

    ``post`` is called from the worker thread. ``clock`` is monotonic, ``wall`` since the epoch.
    """

    def __init__(
        self,
        host: Host,
        connect: Connect,
        post: Post,
        *,
        interval_s: float = 1.0,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self.host = host
        self._connect = connect
        self._post = post
        self._interval_s = interval_s
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._wall = wall
        self._chance = chance or random.Random().random  # noqa: S311 - spreads retries, no secret
        self._changed = threading.Condition()
        self._session = _Session()
        self._session.ended.set()

    def start(self) -> None:
        session = _Session()
        with self._changed:
            self._session = session
        session.thread = spawn(f"feed {self.host.name}", lambda: self._run(session))

    def retry_now(self) -> None:
        """Ends the wait before the next attempt, if it is waiting."""
        self._session.wake.set()

    def drop_if_silent(self, now: float) -> None:
        """Gives up a link that has brought nothing for SILENCE_S, and starts a new one."""
        session = self._session
        limit = max(SILENCE_S, 5 * self._interval_s)
        if session.heard_at is None or now - session.heard_at < limit:
            return
        self._tell(session, HostOffline(self.host.name, f"no news for {limit:.0f} s", "", now))
        self._end(session)
        self.start()

    def close(self) -> threading.Thread | None:
        """Ends the feed; returns the thread to wait for, which may never end on a hung host."""
        session = self._session
        self._end(session)
        return session.thread

    def client(self) -> Client | None:
        """The client of the link that is up now."""
        return self._session.client

    def await_client(self, other_than: Client | None, timeout_s: float) -> Client | None:
        """Waits for a link that is up and whose client is not ``other_than``."""
        with self._changed:
            self._changed.wait_for(lambda: self.client() not in (None, other_than), timeout_s)
            client = self.client()
            return None if client is other_than else client

    def _run(self, session: _Session) -> None:
        attempt = 0
        while not session.ended.is_set():
            self._tell(session, HostConnecting(self.host.name))
            failure = self._one_link(session)
            attempt = 1 if session.was_online else attempt + 1
            delay = self._backoff.delay(attempt, blocked=failure.blocked, chance=self._chance())
            self._tell(session, _offline(self.host.name, failure, self._clock() + delay))
            session.wake.wait(delay)
            session.wake.clear()

    def _one_link(self, session: _Session) -> Failure:
        """Connects and relays until the link ends; says why it ended."""
        session.was_online = False
        try:
            session.opened = self._connect(self.host)
            self._relay(session, session.opened)
        except Exception as error:  # whatever a host does, it becomes that host's reason
            return failure_of(error)
        finally:
            opened, session.opened, session.heard_at = session.opened, None, None
            self._adopt(session, None)
            if opened is not None:
                close_quietly(opened)
        return Failure("the agent ended the session")

    def _relay(self, session: _Session, client: Client) -> None:
        if session.ended.is_set():
            return
        session.heard_at = self._clock()
        jobs = client.jobs()
        watch = client.watch(self._interval_s)
        self._adopt(session, client)
        session.was_online = True
        self._tell(session, HostOnline(self.host.name, jobs))
        for item in watch:
            if session.ended.is_set():
                return
            session.heard_at = self._clock()
            self._tell(session, self._message(item))

    def _message(self, item: Sample | tuple[JobRecord, ...]) -> Message:
        if isinstance(item, Sample):
            return SampleArrived(self.host.name, item, self._clock(), self._wall())
        return JobsArrived(self.host.name, item)

    def _adopt(self, session: _Session, client: Client | None) -> None:
        with self._changed:
            session.client = client
            self._changed.notify_all()

    def _tell(self, session: _Session, message: Message) -> None:
        if not session.ended.is_set():
            self._post(message)

    def _end(self, session: _Session) -> None:
        session.ended.set()
        session.wake.set()
        opened = session.opened
        self._adopt(session, None)
        if opened is not None:
            spawn(f"close {self.host.name}", lambda: close_quietly(opened))


class Feeds:
    """The feeds of all hosts, by name."""

    def __init__(self, feeds: Iterable[HostFeed]) -> None:
        self.by_host: Mapping[str, HostFeed] = {feed.host.name: feed for feed in feeds}

    def start(self) -> None:
        for feed in self.by_host.values():
            feed.start()

    def drop_silent(self, now: float) -> None:
        for feed in self.by_host.values():
            feed.drop_if_silent(now)

    def close(self, wait_s: float = CLOSE_WAIT_S) -> bool:
        """Ends all feeds, waiting at most ``wait_s`` in all. True when every thread ended."""
        threads = [feed.close() for feed in self.by_host.values()]
        return join_all([thread for thread in threads if thread], wait_s)


def spawn(name: str, work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=f"rigup {name}", daemon=True)
    thread.start()
    return thread


def join_all(threads: Iterable[threading.Thread], wait_s: float) -> bool:
    """Waits for threads, ``wait_s`` in all. True when all ended."""
    deadline = time.monotonic() + wait_s
    ended = True
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        ended = ended and not thread.is_alive()
    return ended


def close_quietly(client: Client) -> None:
    """Closes a link that is of no more use; that it was already broken is no news."""
    try:
        client.close()
    except (RigupError, OSError, EOFError):
        return


def _offline(host: str, failure: Failure, retry_at: float) -> HostOffline:
    return HostOffline(host, failure.reason, failure.remedy, retry_at)
