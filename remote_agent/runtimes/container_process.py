"""The first process of a job's container, found in /proc without asking Docker.

With ``--init`` it is Docker's own small init, which passes signals on to the program; when it
ends, the kernel ends all others of the container. It runs as the job's user, carries the job's mark
and is process 1 of a namespace of its own (pid_namespaces(7)).
"""

from __future__ import annotations

import os
from typing import Iterable, List, Optional, Tuple

from remote_agent.processes import PROC, Identity, all_stats, identify, job_of, name_of

ENGINE = "dockerd"


def find_first_process(job_id: str, pids: Iterable[int]) -> Optional[Identity]:
    """Among ``pids``. None also where /proc hides it, as with user namespaces or another
    machine's Docker."""
    found: List[Tuple[int, int]] = []
    for pid in pids:
        numbers = _namespace_pids(pid)
        if len(numbers) > 1 and numbers[-1] == 1 and job_of(pid) == job_id:
            found.append((len(numbers), pid))
    return identify(min(found)[1]) if found else None


def engine_started_after(process: Identity) -> bool:
    """Has an engine of this machine started later than ``process``, which may be gone?"""
    return any(
        entry.start_ticks > process.start_ticks and name_of(entry.pid) == ENGINE
        for entry in all_stats()
    )


def _namespace_pids(pid: int) -> List[int]:
    """Its number in each namespace that it is in, ours first; see proc(5), NSpid."""
    try:
        with open(os.path.join(PROC, str(pid), "status"), "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return [int(word) for word in line.split()[1:]]
    except (OSError, ValueError):
        return []
    return []
