"""The same work for many hosts at once: each gets a result or an error, and none harms another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from provisioner.errors import RigupError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MAX_AT_ONCE = 64


def each(items: Sequence[Item], work: Callable[[Item], Outcome]) -> list[Outcome]:
    """``work`` for every item in threads, results in order; ``work`` must not raise.

    The threads are daemons: ctrl-c is not held up by a host that takes its time.
    """
    results: dict[int, Outcome] = {}
    gate = threading.Semaphore(MAX_AT_ONCE)

    def run(place: int, item: Item) -> None:
        with gate:
            results[place] = work(item)

    threads = [
        threading.Thread(target=run, args=(place, item), daemon=True)
        for place, item in enumerate(items)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[place] for place in range(len(items))]


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
