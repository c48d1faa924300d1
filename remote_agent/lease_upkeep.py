"""Keeps the GPU leases of a running job alive: its supervisor calls it.

Cleaners of temporary directories delete what looks old, and then nobody sees the lease any more.
A supervisor that took over a job may have come too late for a moment, too.
"""

from __future__ import annotations

import time
from typing import Callable, List, Optional, Sequence

from remote_agent.faults import complain_rarely
from remote_agent.leases import Leases
from remote_agent.runtimes.base import Gpu

EVERY_S = 60.0


class LeaseUpkeep:
    """``leases``: the descriptors that hold ``gpus``; those that are leased again are added."""

    def __init__(
        self,
        gpus: Sequence[Gpu],
        job_id: str,
        leases: List[int],
        host: Optional[Leases] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._job_id = job_id
        self._leases = leases
        self._host = host
        self._clock = clock
        self._due = clock() + EVERY_S

    def keep(self) -> None:
        """Call often; it acts every :data:`EVERY_S` seconds."""
        if not self._gpus or self._clock() < self._due:
            return
        self._due = self._clock() + EVERY_S
        try:
            self._keep(self._host or Leases.of_host())
        except OSError as error:
            complain_rarely("cannot keep the GPU leases of %s: %s" % (self._job_id, error))

    def _keep(self, host: Leases) -> None:
        """Where the program or this process holds a lease, acquiring it does nothing."""
        for gpu in self._gpus:
            host.refresh(gpu.uuid)
            fd = host.acquire(gpu.uuid, self._job_id)
            if fd is not None:
                self._leases.append(fd)
