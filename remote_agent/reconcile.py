"""Compare what the disk says with what is really running, and correct the disk."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from remote_agent.faults import DAMAGE, AgentFault, complain
from remote_agent.processes import Identity, is_alive
from remote_agent.protocol.job import LOST, RUNNING, STARTING, Verdict
from remote_agent.store import JobStore
from remote_agent.verdict import reboot, supervisor_gone

Recover = Callable[[str], None]


def reconcile(
    store: JobStore,
    boot_id: str,
    recover: Recover,
    alive: Callable[[Identity], bool] = is_alive,
) -> None:
    """Mark jobs as lost that a reboot or a dead supervisor took away.

    A job whose supervisor is gone but whose program still runs is not lost: ``recover`` is
    called with its id and must give it a new supervisor.
    """
    for record in store.records():
        if record.state not in (STARTING, RUNNING):
            continue
        try:
            reconcile_job(store, record.job_id, boot_id, recover, alive)
        except (AgentFault, *DAMAGE) as error:  # one bad directory must not hide the others
            complain("cannot reconcile job %s: %s" % (record.job_id, error))


def reconcile_job(
    store: JobStore,
    job_id: str,
    boot_id: str,
    recover: Recover,
    alive: Callable[[Identity], bool] = is_alive,
) -> None:
    details = store.details(job_id)
    if details["state"] not in (STARTING, RUNNING):
        return
    if details["boot_id"] != boot_id:
        _lose(store, job_id, reboot(details["boot_id"], boot_id))
    elif not _lives(details.get("supervisor"), alive):
        _without_supervisor(store, job_id, details, recover, alive)


def _without_supervisor(
    store: JobStore,
    job_id: str,
    details: Dict[str, Any],
    recover: Recover,
    alive: Callable[[Identity], bool],
) -> None:
    if _lives(details.get("process"), alive):
        recover(job_id)
        return
    if store.details(job_id) != details:
        return  # it ended properly between our two looks
    _lose(store, job_id, supervisor_gone("its supervisor and its program are gone"))


def _lives(identity: Optional[Dict[str, int]], alive: Callable[[Identity], bool]) -> bool:
    return identity is not None and alive(Identity.from_json(identity))


def _lose(store: JobStore, job_id: str, verdict: Verdict) -> None:
    try:
        store.transition(job_id, LOST, verdict=verdict.to_json())
    except AgentFault:
        return  # somebody else was first
