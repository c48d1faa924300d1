"""Compare what the disk says with what is really running, and correct the disk."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from remote_agent.faults import DAMAGE, AgentFault, complain_rarely
from remote_agent.layout import Layout
from remote_agent.processes import Identity, is_alive
from remote_agent.protocol.job import (
    CONTAINER,
    DAMAGED,
    LOST,
    RUNNING,
    STARTING,
    JobRecord,
    Verdict,
)
from remote_agent.starter import start_sweep
from remote_agent.store import JobStore
from remote_agent.tree import Tree
from remote_agent.verdict import reboot, supervisor_gone

Recover = Callable[[str], None]
Alive = Callable[[Identity], bool]
Remains = Callable[[Tree], bool]


def something_remains(tree: Tree) -> bool:
    """Does any process of the job live, now that its supervisor does not?"""
    return bool(tree.pids())


def reconcile(
    store: JobStore,
    boot_id: str,
    recover: Recover,
    alive: Alive = is_alive,
    remains: Remains = something_remains,
    discard: Callable[[Layout], None] = start_sweep,
    ask_to_repair: Callable[[str], None] = lambda job_id: None,
) -> None:
    """Mark jobs as lost that a reboot or a dead supervisor took away.

    A job whose supervisor is gone but of which something still runs is not lost: ``recover`` is
    called with its id and must give it a new supervisor, which watches the program, or ends what
    is left of it. ``discard`` removes the containers that jobs lost to a reboot have left. Of a
    damaged job nothing is judged: ``ask_to_repair`` may find a supervisor that knows better.
    """
    for record in store.unfinished():
        if record.state == DAMAGED:
            ask_to_repair(record.job_id)
        reconcile_record(store, record, boot_id, recover, alive, remains, discard)


def reconcile_record(
    store: JobStore,
    record: JobRecord,
    boot_id: str,
    recover: Recover,
    alive: Alive = is_alive,
    remains: Remains = something_remains,
    discard: Callable[[Layout], None] = start_sweep,
) -> None:
    """The same for one job. Cheap while its supervisor lives: one small file and one entry of
    /proc are read."""
    if record.state not in (STARTING, RUNNING):
        return
    try:
        details = store.details(record.job_id)
        if details["boot_id"] != boot_id:
            _lose_to_reboot(store, record, reboot(details["boot_id"], boot_id), discard)
        elif details["state"] in (STARTING, RUNNING):
            _reconcile_job(store, record, details, recover, alive, remains)
    except (AgentFault, *DAMAGE) as error:  # one bad directory must not hide the others
        complain_rarely("cannot reconcile job %s: %s" % (record.job_id, error))


def _reconcile_job(
    store: JobStore,
    record: JobRecord,
    details: Dict[str, Any],
    recover: Recover,
    alive: Alive,
    remains: Remains,
) -> None:
    supervisor, process = _identity(details, "supervisor"), _identity(details, "process")
    if supervisor is not None and alive(supervisor):
        return
    contained = record.spec.runtime == CONTAINER  # Docker is asked by the one who may wait for it
    tree = Tree.recorded(record.job_id, store.layout.job(record.job_id), details)
    if contained or (process is not None and alive(process)) or remains(tree):
        recover(record.job_id)
        return
    if store.details(record.job_id) != details:
        return  # it ended properly between our two looks
    _lose(store, record.job_id, supervisor_gone("its supervisor and its program are gone"))


def _lose_to_reboot(
    store: JobStore, record: JobRecord, verdict: Verdict, discard: Callable[[Layout], None]
) -> None:
    _lose(store, record.job_id, verdict)
    if record.spec.runtime == CONTAINER:
        discard(store.layout)


def _identity(details: Dict[str, Any], role: str) -> Optional[Identity]:
    told = details.get(role)
    return None if told is None else Identity.from_json(told)


def _lose(store: JobStore, job_id: str, verdict: Verdict) -> None:
    try:
        store.transition(job_id, LOST, verdict=verdict.to_json())
    except AgentFault:
        return  # somebody else was first
