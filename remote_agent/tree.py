"""All processes of one job, also those that daemonized away, and how to end them."""

from __future__ import annotations

import os
from typing import List, Set

from remote_agent.processes import Identity, identity_of, members


class Tree:
    """The calling process is the job's supervisor: its descendants belong to the job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._roots: Set[Identity] = {identity_of(os.getpid())}

    def add_root(self, process: Identity) -> None:
        self._roots.add(process)

    def pids(self) -> List[int]:
        return members(self.job_id, self._roots, spared={os.getpid()})

    def send(self, number: int) -> int:
        """Signal every process of the job; returns how many there were."""
        pids = self.pids()
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue  # gone meanwhile, or of another user (sudo): theirs to end
        return len(pids)
