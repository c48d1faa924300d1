"""Who ended a job's container: asked of Docker, and told from what became of Docker itself."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional

from remote_agent.docker import container_events, read_engine
from remote_agent.processes import Identity
from remote_agent.runtimes.base import Ending
from remote_agent.runtimes.container_end import code_at_death, fatal_signal, who_ended_it
from remote_agent.runtimes.container_process import engine_started_after

STOPPING_LIMIT_S = 5.0
DOCKER_STOPPED = (
    "Docker itself was stopped or restarted, which ends its containers: live-restore is off"
)


class CauseFinder:
    """``keeps_containers``: do they go on without Docker (live-restore), as far as known?
    ``lost_docker``: it was away, or its client ended before the container."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self.keeps_containers: Optional[bool] = None
        self.lost_docker = False
        self._undecided: Optional[Ending] = None
        self._undecided_since = 0.0

    def is_away(self, timeout_s: float) -> bool:
        """Where Docker answers, whether it keeps containers is known anew."""
        engine = read_engine(timeout_s)
        if engine is not None:
            self.keeps_containers = engine.keeps_containers
        return engine is None

    def complete(
        self, ending: Ending, first: Optional[Identity], timeout_s: float
    ) -> Optional[Ending]:
        """The ending with its cause. None as long as it may still show: Docker that stops without
        live-restore first ends its containers, then answers no more, and forgets its events.
        ``first``: the container's first process."""
        told = who_ended_it(self._events())
        if told or ending.signal not in (signal.SIGTERM, signal.SIGKILL):
            return replace(ending, outside=told)
        away = self.is_away(timeout_s)
        if self.keeps_containers is not False:
            return ending
        if self.lost_docker or away or _engine_is_younger(first):
            return replace(ending, outside=DOCKER_STOPPED)
        if self._undecided is None:
            self._undecided, self._undecided_since = ending, self._clock()
        over = self._clock() - self._undecided_since >= STOPPING_LIMIT_S
        return ending if over else None

    def decided_by_silence(self) -> Optional[Ending]:
        """What was undecided when Docker stopped answering."""
        undecided = self._undecided
        return replace(undecided, outside=DOCKER_STOPPED) if undecided is not None else None

    def of_removed(self) -> Optional[Ending]:
        """The end of a container that is not there any more, where Docker remembers it."""
        events = self._events()
        code = code_at_death(events)
        if code is None:
            return None
        return Ending(code, fatal_signal(code), outside=who_ended_it(events))

    def _events(self) -> List[Dict[str, Any]]:
        """Where Docker was asked to end it, a moment more is waited for: that it was removed comes
        after its end."""
        events = container_events(self._name, 0.0)
        return container_events(self._name, 1.0) if who_ended_it(events) else events


def _engine_is_younger(first: Optional[Identity]) -> bool:
    """By its socket, systemd lets questions wait for the engine that comes, so that nobody sees
    Docker away."""
    return first is not None and engine_started_after(first)
