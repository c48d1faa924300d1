"""Stopping a job that has a supervisor: ask it, wait for it, answer with what became of it."""

from __future__ import annotations

import os
import signal
import time
from typing import Callable, Optional, Tuple

from remote_agent.disk import write_problem
from remote_agent.faults import AgentFault
from remote_agent.files import read_json, write_json
from remote_agent.layout import JobPaths
from remote_agent.leftovers import listed
from remote_agent.processes import Identity, find_supervisor, is_alive
from remote_agent.protocol.job import CONTAINER
from remote_agent.runtimes.base import container_name
from remote_agent.store import JobStore
from remote_agent.tasks import Steps, Wait
from remote_agent.tree import Tree

POLL_S = 0.03
ASK_AGAIN_S = 1.0
DEFAULT_GRACE_S = 10.0
MARGIN_S = 20.0
"""What a supervisor may need beyond the grace period: killing, container clean-up, disk."""


def ask_to_stop(paths: JobPaths, grace_s: float) -> Optional[OSError]:
    """Leave the request where the supervisor looks. On a full disk it is an empty file, or
    another name of a file that is there: what counts is that it exists. Returns why it could not
    be left at all: then only a supervisor that lives can be told, by a signal."""
    try:
        write_json(paths.stop, {"grace_s": grace_s, "asked_at": time.time()})
    except OSError:
        try:
            _leave_bare_request(paths)
        except OSError as error:
            return error
    return None


def requested_grace(paths: JobPaths) -> float:
    """Seconds; :data:`DEFAULT_GRACE_S` where the request could not say."""
    try:
        return float(read_json(paths.stop).get("grace_s", DEFAULT_GRACE_S))
    except (OSError, ValueError, TypeError):
        return DEFAULT_GRACE_S


def _leave_bare_request(paths: JobPaths) -> None:
    try:
        os.close(os.open(paths.stop, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        if not os.path.exists(paths.stop):
            os.link(paths.spec, paths.stop)


def ask_to_repair(job_id: str) -> None:
    """Wake the supervisor of a job with damaged records: it writes them anew."""
    supervisor = find_supervisor(job_id)
    if supervisor is not None:
        _signal(supervisor.pid, signal.SIGUSR1)


def stop_running(
    store: JobStore,
    job_id: str,
    grace_s: float,
    reconcile: Callable[[], None],
    unwritten: Optional[OSError] = None,
) -> Steps:
    """The stop request is already on disk, or ``unwritten`` says why not; answers when the job is
    over. Raises AgentFault ``not-stopped`` when that takes longer than the grace period allows."""
    deadline = time.monotonic() + grace_s + MARGIN_S
    ask_at, told = 0.0, False
    while True:
        record = store.record(job_id)
        if record.is_final:
            return {"record": record.to_json()}, b""
        if time.monotonic() >= deadline:
            raise AgentFault("not-stopped", _what_keeps_it(store, job_id))
        if time.monotonic() >= ask_at:
            ask_at = time.monotonic() + ASK_AGAIN_S
            told = _wake(store, job_id, by_signal=unwritten is not None) or told
            if unwritten is not None and not told:
                raise AgentFault(
                    "io-error", "the stop request could not be written: %s" % unwritten
                )
            reconcile()
        yield Wait(POLL_S)


def _wake(store: JobStore, job_id: str, *, by_signal: bool) -> bool:
    """Make the supervisor look. ``by_signal``: the signal itself is the request. True where there
    is a supervisor that understands."""
    supervisor, stop_signal = _supervisor(store, job_id)
    if supervisor is None or not is_alive(supervisor):
        return False
    if by_signal and stop_signal is None:
        return False
    return _signal(supervisor.pid, stop_signal if by_signal and stop_signal else signal.SIGUSR1)


def _signal(pid: int, number: int) -> bool:
    """A process that somebody has stopped (SIGSTOP) is woken first."""
    try:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, number)
    except ProcessLookupError:
        return False  # it ended just now; reconciling sorts that out
    return True


def _supervisor(store: JobStore, job_id: str) -> Tuple[Optional[Identity], Optional[int]]:
    """The job's supervisor, and the signal that tells it to stop where it knows one."""
    try:
        details = store.details(job_id)
    except AgentFault:
        return find_supervisor(job_id), None
    told, understood = details.get("supervisor"), details.get("stop_signal") == signal.SIGUSR2
    supervisor = None if told is None else Identity.from_json(told)
    return supervisor, signal.SIGUSR2 if understood else None


def _tree(store: JobStore, job_id: str) -> Tree:
    try:
        details = store.details(job_id)
    except AgentFault:
        details = {}
    return Tree.recorded(job_id, store.layout.job(job_id), details)


def _what_keeps_it(store: JobStore, job_id: str) -> str:
    """Said to the person who asked, when the job is not over in time."""
    paths = store.layout.job(job_id)
    record = store.record(job_id)
    processes = _tree(store, job_id).described()
    if processes:
        said = "%d of its processes still run: %s" % (len(processes), listed(processes))
    else:
        said = "none of its processes was found"
    problem = write_problem(paths.root)
    if problem:
        said += "; its end cannot be written (%s: %s): make room, see `df -h`" % (
            paths.root,
            problem,
        )
    said += "; the request stays, and is carried out as soon as that is possible"
    if record.spec.runtime == CONTAINER:
        name = container_name(job_id)
        said += "; if Docker hangs or is stopped, start it (`systemctl status docker`), or end the "
        said += "container on the host: docker rm -f %s" % name
    return "%s was asked to stop and is still %s: %s" % (job_id, record.state, said)
