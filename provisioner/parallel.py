"""The same work for many hosts at once: each gets a result or an error, and none harms another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from provisioner.errors import RigupError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MAX_AT_ONCE = 64
POLL_S = 0.1


def each(
    items: Sequence[Item],
    work: Callable[[Item], Outcome],
    *,
    limit_s: Callable[[Item], float] | None = None,
    overrun: Callable[[Item], Outcome] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """``work`` for every item in threads, results in order; ``work`` must not raise.

    An item whose work takes longer than ``limit_s(item)`` seconds gets ``overrun(item)``, and its
    thread is left to itself: it holds up neither the others nor the end of the program. The threads
    are daemons for the same reason: ctrl-c is not held up by a host that takes its time.
    """
    tasks = [_Task(item, work, clock) for item in items]
    gate = threading.Semaphore(MAX_AT_ONCE)
    for task in tasks:
        threading.Thread(target=task.run, args=(gate,), daemon=True).start()
    for task in tasks:
        if limit_s is None or overrun is None:
            task.done.wait()
        elif not task.wait(limit_s(task.item)):
            task.give_up(overrun(task.item), gate)
    return [task.outcome() for task in tasks]


class _Task(Generic[Item, Outcome]):
    def __init__(
        self, item: Item, work: Callable[[Item], Outcome], clock: Callable[[], float]
    ) -> None:
        self.item = item
        self.done = threading.Event()
        self._work = work
        self._clock = clock
        self._started_at: float | None = None
        self._outcomes: list[Outcome] = []

    def run(self, gate: threading.Semaphore) -> None:
        gate.acquire()
        self._started_at = self._clock()
        outcome = self._work(self.item)
        if not self.done.is_set():
            self._outcomes.append(outcome)
            self.done.set()
            gate.release()

    def wait(self, limit_s: float) -> bool:
        """Whether the work ended within ``limit_s`` seconds of its start."""
        while not self.done.wait(POLL_S):
            if self._started_at is not None and self._clock() - self._started_at > limit_s:
                return False
        return True

    def give_up(self, outcome: Outcome, gate: threading.Semaphore) -> None:
        """Take ``outcome`` instead of the work's own, and let the next one start."""
        self._outcomes.append(outcome)
        if not self.done.is_set():
            self.done.set()
            gate.release()

    def outcome(self) -> Outcome:
        return self._outcomes[0]


@dataclass(frozen=True)
class Patience(Generic[Outcome]):
    """When not to wait for all. Once ``is_enough`` says so of the outcomes that there are, the
    others get ``grace_s`` seconds more. ``discard`` gets what comes after that."""

    is_enough: Callable[[Sequence[Outcome]], bool]
    grace_s: float
    discard: Callable[[Outcome], object]


def until_enough(
    items: Sequence[Item],
    work: Callable[[Item], Outcome],
    patience: Patience[Outcome],
    *,
    limit_s: Callable[[Item], float],
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome | None]:
    """:func:`each`, with None for an item that was not waited for: for longer than the largest of
    the ``limit_s``, or than ``patience`` says."""
    race: _Race[Item, Outcome] = _Race(items, work, patience.discard)
    deadline = clock() + max(map(limit_s, items), default=0.0)
    is_enough = False
    while len(race.outcomes) < len(items) and race.wait(deadline - clock()):
        if not is_enough and patience.is_enough(list(race.outcomes.values())):
            is_enough = True
            deadline = min(deadline, clock() + patience.grace_s)
    outcomes = race.end()
    return [outcomes.get(number) for number in range(len(items))]


class _Race(Generic[Item, Outcome]):
    """Outcomes as they come, until somebody ends it."""

    def __init__(
        self,
        items: Sequence[Item],
        work: Callable[[Item], Outcome],
        discard: Callable[[Outcome], object],
    ) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._work = work
        self._discard = discard
        self._lock = threading.Lock()
        self._is_over = False
        self._arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
        gate = threading.Semaphore(MAX_AT_ONCE)
        for number, item in enumerate(items):
            arguments = (number, item, gate)
            threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def wait(self, limit_s: float) -> bool:
        """Whether another outcome came within ``limit_s`` seconds."""
        try:
            self._arrived.get(timeout=max(0.0, limit_s))
        except queue.Empty:
            return False
        return True

    def end(self) -> dict[int, Outcome]:
        with self._lock:
            self._is_over = True
            return self.outcomes

    def _run(self, number: int, item: Item, gate: threading.Semaphore) -> None:
        with gate:
            if self._is_over:
                return
            outcome = self._work(item)
        with self._lock:
            if not self._is_over:
                self.outcomes[number] = outcome
                self._arrived.put(None)
                return
        self._discard(outcome)


def ahead(work: Callable[[], object]) -> None:
    """Begin ``work``, which keeps its result for whoever asks for it later, while hosts are waited
    for. An error is for whoever asks."""

    def run() -> None:
        with suppress(Exception):
            work()

    threading.Thread(target=run, daemon=True).start()


class Background(Generic[Outcome]):
    """``work``, begun now in a thread of its own; :meth:`result` waits for what it returns, or
    raises its error."""

    def __init__(self, work: Callable[[], Outcome]) -> None:
        self._outcomes: list[Outcome] = []
        self._error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Outcome:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._outcomes[0]

    def _run(self) -> None:
        try:
            self._outcomes.append(self._work())
        except BaseException as error:
            self._error = error


def as_rigup_error(error: Exception, host: str) -> RigupError:
    """Any exception as an error of one host; a defect is named as one."""
    if not isinstance(error, RigupError):
        text = f"unexpected {type(error).__name__}: {error}"
        return RigupError(text, host=host, remedy="please report this as a defect of rigup")
    error.host = error.host or host
    return error
