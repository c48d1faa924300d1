"""Remove the containers of finished jobs that Docker did not remove because it was away.

The file with a container's environment stays until the container is gone: it tells which are left.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Callable, List

from remote_agent.docker import DockerSilent, remove_containers
from remote_agent.files import try_lock
from remote_agent.layout import Layout
from remote_agent.protocol.job import CONTAINER
from remote_agent.store import JobStore

LIMIT_S = 600.0
"""How long Docker is waited for; the next contact tries again."""
ROUND_S = 5.0


def jobs_with_leftovers(store: JobStore) -> List[str]:
    return [
        record.job_id
        for record in store.records()
        if record.spec.runtime == CONTAINER
        and record.is_final
        and os.path.exists(store.layout.job(record.job_id).container_env)
    ]


def sweep(
    layout: Layout,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Returns when nothing is left, when Docker stays away, and at once where another sweeps."""
    store, deadline = JobStore(layout), clock() + LIMIT_S
    with try_lock(layout.sweep_lock) as ours:
        while ours:
            left = [job_id for job_id in jobs_with_leftovers(store) if not discard(layout, job_id)]
            if not left or clock() >= deadline:
                return
            sleep(ROUND_S)


def discard(layout: Layout, job_id: str) -> bool:
    """Remove a job's container and the file that tells of it; False while Docker is away."""
    try:
        remove_containers(job_id)
    except DockerSilent:
        return False
    with suppress(FileNotFoundError):
        os.unlink(layout.job(job_id).container_env)
    return True
