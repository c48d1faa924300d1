"""GPUs of this user's jobs that run, whoever holds their leases.

A container has no descriptor of its job's lease: where its supervisor was killed nobody holds it,
until another supervisor takes over. The same goes for jobs that an older agent has started.
"""

from __future__ import annotations

import time
from typing import Callable, Dict, List

from remote_agent.faults import DAMAGE, AgentFault
from remote_agent.processes import boot_id
from remote_agent.protocol.job import RUNNING, STARTING
from remote_agent.reconcile import reconcile
from remote_agent.starter import start_recovery
from remote_agent.store import JobStore

LOOK_AGAIN_S = 10.0
"""A supervisor that takes over needs a moment to start."""


class OwnGpus:
    """``reconcile`` is called with the store and what starts another supervisor for a job."""

    def __init__(
        self,
        store: JobStore,
        reconcile: Callable[..., None] = reconcile,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._reconcile = reconcile
        self._clock = clock
        self._due = clock()

    def jobs(self) -> Dict[str, str]:
        """UUID -> job. Jobs that are over without having said so do not count for long, and those
        that still run get another supervisor."""
        if self._clock() >= self._due:
            self._due = self._clock() + LOOK_AGAIN_S
            self._reconcile(self._store, boot_id(), self._recover)
        return {uuid: job for job in self._under_way() for uuid in self._uuids(job)}

    def _under_way(self) -> List[str]:
        found = (one for one in self._store.unfinished() if one.state in (STARTING, RUNNING))
        return [one.job_id for one in found]

    def _uuids(self, job_id: str) -> List[str]:
        try:
            uuids = self._store.details(job_id).get("gpu_uuids")
        except (AgentFault, *DAMAGE):
            return []
        known = uuids if isinstance(uuids, list) else []
        return [uuid for uuid in known if isinstance(uuid, str)]

    def _recover(self, job_id: str) -> None:
        start_recovery(self._store.layout, job_id)
