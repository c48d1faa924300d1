"""Stopping without breaking anything: between two actions, never inside one."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from provisioner.errors import Interrupted, OutOfTime, RigupError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Asked to stop by a person, or by a deadline (in seconds of ``clock``). Thread-safe."""

    def __init__(
        self,
        *,
        within_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        asked: threading.Event | None = None,
    ) -> None:
        self._clock = clock
        self._within_s = within_s
        self._deadline = math.inf if within_s is None else clock() + within_s
        self._asked = asked or threading.Event()

    def within(self, seconds: float | None) -> Stop:
        """The same person's wish, and a deadline from now on."""
        return Stop(within_s=seconds, clock=self._clock, asked=self._asked)

    def ask(self) -> None:
        self._asked.set()

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set() or self._clock() >= self._deadline

    def reason(self) -> RigupError:
        """Why, as the error of a host."""
        if self._asked.is_set():
            return Interrupted("stopped as you asked", remedy="provision again: it goes on here")
        return OutOfTime(
            f"not done within {self._within_s:g} s (--timeout)",
            remedy="provision again: it goes on here; raise --timeout if the host is slow",
        )

    def check(self) -> None:
        """Raises Interrupted or OutOfTime once asked: call it before every action."""
        if self.is_asked:
            raise self.reason()

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond a wish to stop; raises as :meth:`check` does."""
        left = self._deadline - self._clock()
        self._asked.wait(max(0.0, min(seconds, left)))
        self.check()


@contextmanager
def stopping_on_signals(stop: Stop, tell: Callable[[str], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks ``stop``; the second ends the program at once."""

    def handle(number: int, frame: Any) -> None:
        if stop.is_asked:
            raise KeyboardInterrupt
        stop.ask()
        tell("stopping: nothing new is started, what runs on a host may end; again: at once")

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
