"""Start the agent's detached processes: supervisors, the dispatcher, what prepares images."""

from __future__ import annotations

import os
from typing import Sequence, Tuple

from remote_agent.detach import own_command, spawn_detached
from remote_agent.layout import Layout
from remote_agent.runtimes.base import Gpu
from remote_agent.scope import job_scope, session_escape


def start_supervisor(
    layout: Layout, job_id: str, gpus: Sequence[Gpu] = (), leases: Tuple[int, ...] = ()
) -> None:
    """``leases`` are the locked descriptors that keep ``gpus`` reserved."""
    words = ["supervise", "--state-dir", layout.root, "--job", job_id]
    if gpus:
        words += ["--gpus", ",".join(gpu.to_word() for gpu in gpus)]
        words += ["--leases", ",".join(map(str, leases))]
    _spawn(words, layout.job(job_id).errors, job_scope(job_id), leases)


def start_waiting_supervisor(layout: Layout, job_id: str, channel: int) -> None:
    """``channel``: see :mod:`remote_agent.standby`."""
    words = ["supervise", "--state-dir", layout.root, "--job", job_id, "--standby", str(channel)]
    _spawn(words, layout.job(job_id).errors, job_scope(job_id), (channel,))


def start_recovery(layout: Layout, job_id: str) -> None:
    words = ["recover", "--state-dir", layout.root, "--job", job_id]
    _spawn(words, layout.job(job_id).errors, job_scope(job_id))


def start_dispatcher(layout: Layout) -> None:
    errors = os.path.join(layout.root, "dispatcher.err")
    _spawn(["dispatch", "--state-dir", layout.root], errors, session_escape())


def start_preparation(layout: Layout, job_id: str) -> None:
    """Get the image of a queued job."""
    words = ["prepare", "--state-dir", layout.root, "--job", job_id]
    _spawn(words, layout.job(job_id).preparer_errors, session_escape())


def start_sweep(layout: Layout) -> None:
    """Remove what containers finished jobs have left, as soon as Docker answers."""
    errors = os.path.join(layout.root, "sweep.err")
    _spawn(["sweep", "--state-dir", layout.root], errors, session_escape())


def _spawn(
    words: Sequence[str], errors: str, scope: Sequence[str], keep: Tuple[int, ...] = ()
) -> None:
    spawn_detached(own_command(*words), errors=errors, keep=keep, scope=scope)
