"""A dispatcher of another version serves the queue until it is empty, and an older one does not
understand every job: it would start one without its image, or on GPUs that it did not ask for."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from remote_agent.layout import Layout
from remote_agent.own_file import own_path
from remote_agent.processes import find_dispatchers, is_alive
from remote_agent.protocol.job import JobSpec

LIMIT_S = 1.0
POLL_S = 0.01


def needs_this_version(spec: JobSpec) -> bool:
    return bool(spec.gpu_indices) or spec.image_plan is not None


def end_other_dispatchers(layout: Layout) -> None:
    """Another must be started then. Ending one is safe at any time: what it leased is free again,
    and jobs that it started do not need it."""
    others = find_dispatchers(layout.root, own_path())
    for other in others:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(other.pid, signal.SIGTERM)
    deadline = time.monotonic() + LIMIT_S
    while any(map(is_alive, others)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
