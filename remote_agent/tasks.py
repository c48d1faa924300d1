"""Work that takes time, without threads: generators that say when to be called again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Generator, Iterator, List, Optional, Tuple

from remote_agent.protocol.messages import Reply


@dataclass(frozen=True)
class Wait:
    """Call me again in ``seconds``, or as soon as ``fd`` is readable."""

    seconds: float
    fd: Optional[int] = None


Answer = Tuple[Dict[str, Any], bytes]
"""An operation's result and its payload."""

Steps = Generator[Wait, None, Answer]
"""An operation that yields while it waits."""


@dataclass
class Task:
    """``id`` is the request that the steps answer."""

    id: int
    steps: Steps
    due: float = 0.0
    fd: Optional[int] = None


class Tasks:
    """``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        finish: Callable[[Reply], None],
        fail: Callable[[int, Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._finish = finish
        self._fail = fail
        self._clock = clock
        self._tasks: Dict[int, Task] = {}

    def add(self, request_id: int, steps: Steps) -> None:
        """Start at once: quick work is over when this returns."""
        task = Task(request_id, steps)
        self._tasks[request_id] = task
        self._step(task)

    def cancel(self, request_id: int) -> None:
        task = self._tasks.pop(request_id, None)
        if task is not None:
            task.steps.close()

    def fds(self) -> Iterator[int]:
        return (task.fd for task in self._tasks.values() if task.fd is not None)

    def timeout(self) -> Optional[float]:
        """Seconds until something is due; None: never."""
        if not self._tasks:
            return None
        return max(0.0, min(task.due for task in self._tasks.values()) - self._clock())

    def run_due(self, ready: List[int]) -> None:
        now = self._clock()
        for task in list(self._tasks.values()):
            if task.due <= now or (task.fd is not None and task.fd in ready):
                self._step(task)

    def _step(self, task: Task) -> None:
        try:
            wait = next(task.steps)
        except StopIteration as end:
            self._tasks.pop(task.id, None)
            result, payload = end.value
            self._finish(Reply(task.id, result=result, payload=payload))
        except Exception as error:
            self._tasks.pop(task.id, None)
            self._fail(task.id, error)
        else:
            task.due, task.fd = self._clock() + wait.seconds, wait.fd
