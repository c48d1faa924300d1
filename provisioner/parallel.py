"""The same work for many hosts at once: each gets a result or an error, and none harms another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
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


def ahead(work: Callable[[], object]) -> None:
    """Begin ``work``, which keeps its result for whoever asks for it later, while hosts are waited
    for. An error is for whoever asks."""

    def run() -> None:
        with suppress(Exception):
            work()

    threading.Thread(target=run, daemon=True).start()


def as_rigup_error(error: Exception, host: str) -> RigupError:
    """Any exception as an error of one host; a defect is named as one."""
    if not isinstance(error, RigupError):
        text = f"unexpected {type(error).__name__}: {error}"
        return RigupError(text, host=host, remedy="please report this as a defect of rigup")
    error.host = error.host or host
    return error
