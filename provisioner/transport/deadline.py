"""One notion of a deadline for everything that waits for a host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """A moment ``seconds`` from now, on a clock that is never set."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moment = clock() + seconds

    def left(self) -> float:
        """Seconds until then, 0 when it has passed."""
        return max(0.0, self._moment - self._clock())

    @property
    def has_passed(self) -> bool:
        return self.left() == 0.0


class Watch:
    """A deadline that acts. ``is_late`` tells whether it did."""

    def __init__(self, within_s: float, act: Callable[[], None]) -> None:
        self.is_late = False
        self._act = act
        self._deadline = Deadline(within_s)
        self._ended = threading.Event()

    def renew(self, within_s: float) -> None:
        """There was progress: the deadline is ``within_s`` seconds from now."""
        self._deadline = Deadline(within_s)

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._deadline.left()):
            if self._deadline.has_passed:
                self.is_late = True
                self._act()
                return


@contextmanager
def watched(within_s: float, act: Callable[[], None]) -> Iterator[Watch]:
    """Call ``act`` from another thread where the body has not ended within ``within_s`` seconds.

    For calls that have no time limit of their own: ``act`` must make them end.
    """
    watch = Watch(within_s, act)
    watch.start()
    try:
        yield watch
    finally:
        watch.end()


def within(seconds: float, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises; TimeoutError where it takes longer, and is left to itself.

    For calls that nothing can make end, such as a question to the resolver of names.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"not done within {seconds:g} s")
    return results[0]
