"""How a supervisor gets its job: from the queue, from a supervisor that was killed, or from records
that are damaged.

It claims the job by the transition queued -> starting, so of two supervisors one gives up.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Dict, List, Sequence, Tuple

from remote_agent.cgroup import make_cgroup
from remote_agent.faults import DAMAGE, AgentFault, complain, complain_of_exception
from remote_agent.kernel import become_subreaper
from remote_agent.layout import Layout
from remote_agent.leases import Leases
from remote_agent.processes import Identity, boot_id, find_supervisor, identify, is_alive
from remote_agent.protocol.job import DAMAGED, FINAL, RUNNING, STARTING
from remote_agent.reboot_hold import reboot_is_due
from remote_agent.runtimes.base import Gpu
from remote_agent.starter import start_dispatcher
from remote_agent.state_file import reserve
from remote_agent.store import JobStore
from remote_agent.supervisor import IGNORED, STOP_NOW, WAKING, Supervisor, guarded
from remote_agent.wakeup import wake_dispatcher


def supervise(
    layout: Layout, job_id: str, gpus: Sequence[Gpu] = (), leases: Sequence[int] = ()
) -> None:
    """Run a queued job to its end. Returns at once when somebody else has claimed it, or when the
    host is about to reboot, which has looked for jobs already.

    ``leases``: the inherited descriptors that reserve ``gpus``; the program has copies. They are
    closed as soon as nothing of the job runs.
    """
    _take_signals()
    store = JobStore(layout)
    cgroup = make_cgroup(job_id)
    if reboot_is_due():
        start_dispatcher(layout)
        return
    try:
        store.transition(
            job_id,
            STARTING,
            boot_id=boot_id(),
            supervisor=_own_identity(),
            stop_signal=int(STOP_NOW),
            gpu_ids=[gpu.index for gpu in gpus],
            gpu_uuids=[gpu.uuid for gpu in gpus],
            gpu_pci=[gpu.pci for gpu in gpus],
            cgroup=cgroup.path if cgroup else None,
        )
    except (AgentFault, OSError) as error:  # not ours, or the disk is full: it stays queued
        complain("%s was not claimed: %s" % (job_id, error))
        return
    finally:
        wake_dispatcher(layout)
    reserve(layout.job(job_id))
    guarded(store, job_id, tuple(gpus), leases, Supervisor.run)


def recover(layout: Layout, job_id: str) -> None:
    """Take over a job whose supervisor was killed, or end what is left of it. Of a job whose
    records are damaged, end what runs: that is what a stop request for it leads to."""
    _take_signals()
    store = JobStore(layout)
    if store.record(job_id).state == DAMAGED:
        if _rebuild(store, job_id):
            guarded(store, job_id, (), (), Supervisor.run_rebuilt)
        return
    taken = {"supervisor": _own_identity(), "stop_signal": int(STOP_NOW)}
    if not store.take_over(job_id, _is_orphaned, **taken):
        return
    details = store.details(job_id)
    gpus = _leased(details)
    leases = _hold(gpus, job_id)
    told = details.get("process")
    process = None if told is None else Identity.from_json(told)
    guarded(store, job_id, gpus, leases, lambda supervisor: supervisor.run_recovered(process))


def _take_signals() -> None:
    become_subreaper()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, WAKING)


def _is_orphaned(details: Dict[str, Any]) -> bool:
    supervisor = details.get("supervisor")
    return supervisor is None or not is_alive(Identity.from_json(supervisor))


def _own_identity() -> Dict[str, int]:
    identity = identify(os.getpid())
    if identity is None:
        raise RuntimeError("/proc does not show this process")
    return identity.to_json()


def _leased(details: Dict[str, Any]) -> Tuple[Gpu, ...]:
    uuids = details.get("gpu_uuids", ())
    pci = details.get("gpu_pci") or [""] * len(uuids)
    return tuple(map(Gpu, details.get("gpu_ids", ()), uuids, pci))


def _hold(gpus: Sequence[Gpu], job_id: str) -> List[int]:
    """Where the descriptors that leased the GPUs died with their holders (a container has none),
    lease them again; where the program still has them, nothing is to be done."""
    leases = []
    for gpu in gpus:
        try:
            fd = Leases.of_host().acquire(gpu.uuid, job_id)
        except OSError:
            complain_of_exception()
            continue
        if fd is not None:
            os.set_inheritable(fd, True)
            leases.append(fd)
    return leases


def _rebuild(store: JobStore, job_id: str) -> bool:
    """Give a damaged job that nobody supervises records to end it with. True when it then counts
    as running, which may be wrong: ending it shows."""
    shown = store.record(job_id)
    try:
        known = store.known_state(job_id)
    except DAMAGE:
        known = {"created_at": shown.created_at, "started_at": shown.created_at}
    ended = known.get("state") in FINAL
    state = known if ended else {**known, "state": RUNNING, "boot_id": boot_id()}
    state["supervisor"] = _own_identity()
    repaired = store.repair(job_id, state, shown.spec, lambda: find_supervisor(job_id) is None)
    return repaired and not ended
