"""Calls to a host's agent that outlive a lost link: connect again, and ask again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from provisioner.agent.client import AgentClient
from provisioner.errors import CommandTimeout, ConnectError, ConnectionLost, RigupError

T = TypeVar("T")

Connect = Callable[[], AgentClient]
OnBreak = Callable[[RigupError, float], None]

RETRY_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before the first attempts after a break; the last one again and again."""
LOST = (ConnectionLost, ConnectError, CommandTimeout)


class PatientAgent:
    """One host's agent. ``on_break`` is told each lost connection and the pause in seconds.

    ``attempts``: how often in a row a call may fail before its error is raised; None: for ever.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        attempts: int | None = None,
        on_break: OnBreak | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect = connect
        self._attempts = attempts
        self._on_break = on_break
        self._sleep = sleep
        self._client: AgentClient | None = None

    def call(self, work: Callable[[AgentClient], T]) -> T:
        """What ``work`` returns; it is done again after a lost, refused or silent connection, so
        it must be harmless to repeat. Other errors are raised."""
        failures = 0
        while True:
            try:
                if self._client is None:
                    self._client = self._connect()
                return work(self._client)
            except LOST as error:
                self.close()
                pause = RETRY_PAUSES_S[min(failures, len(RETRY_PAUSES_S) - 1)]
                failures += 1
                if failures == self._attempts:
                    raise
                if self._on_break is not None:
                    self._on_break(error, pause)
                self._sleep(pause)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> PatientAgent:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
