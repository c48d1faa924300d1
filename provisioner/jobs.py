"""The job façade: connect, find, follow. What commands and the dashboard build on."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from inventory import Host, Inventory, InventoryError
from provisioner.agent.client import AgentClient, LogChunk
from provisioner.agent.connect import open_agent
from provisioner.agent.link import CALL_TIMEOUT_S
from provisioner.agent.patient import Connect, OnBreak, PatientAgent
from provisioner.errors import (
    CommandTimeout,
    RigupError,
    UsageError,
)
from provisioner.home import rigup_home, write_private
from provisioner.parallel import as_rigup_error, each
from provisioner.transport.base import Transport
from provisioner.transport.ssh import SshTransport
from remote_agent.protocol.job import DAMAGED, QUEUED, JobRecord

T = TypeVar("T")

PerHost: TypeAlias = tuple[Host, T | None, RigupError | None]
"""A host with its result or its error."""

LOG_WAIT_S = 20.0
QUEUE_WAIT_S = 1.0
"""While a job is queued: how often its reason is read anew."""
LOG_CHUNK = 262_144
CONNECT_PHASES = 4
"""TCP, key exchange, login, channel: each may take the host's connect timeout."""

JOB_ID_PART = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


OnCut = Callable[[int, int], None]
"""Told how many bytes were read of a log, and how many it has now, which are fewer."""


OnWait = Callable[[str], None]


def _ignore_cut(read: int, left: int) -> None:
    return


def connect(host: Host) -> AgentClient:
    """The agent on ``host``, deployed first where it is missing or old.

    Raises TransportError, BlockedError (host key) or AgentError.
    """
    transport = SshTransport(host)
    try:
        client = agent_over(transport, host)
    except BaseException:
        transport.close()
        raise
    client.on_close = transport.close
    return client


def agent_over(transport: Transport, host: Host) -> AgentClient:
    """The agent over a connection that the caller closes; deployed first where needed."""
    timeout_s = min(CALL_TIMEOUT_S, host.command_timeout_s)
    return open_agent(transport, host.state_dir, call_timeout_s=timeout_s)


def on_each(
    hosts: Sequence[Host], work: Callable[[Host], T], *, limited: bool = True
) -> list[PerHost[T]]:
    """Run ``work`` for every host at once: each gets a result or an error, in order.

    Where ``limited``, a host that takes longer than its time limits allow gets CommandTimeout.
    Each wait has a limit already; this one is for a host that answers, and never ends.
    """

    def attempt(host: Host) -> PerHost[T]:
        try:
            return host, work(host), None
        except Exception as error:
            return host, None, as_rigup_error(error, host.name)

    if not limited:
        return each(hosts, attempt)
    return each(hosts, attempt, limit_s=longest_s, overrun=_overrun)


def longest_s(host: Host) -> float:
    """Connecting (every jump host on the way as well) and two commands in a row."""
    hops = 1
    way = host.via
    while way is not None:
        hops, way = hops + 1, way.via
    return hops * CONNECT_PHASES * host.connect_timeout_s + 2 * host.command_timeout_s


def _overrun(host: Host) -> PerHost[T]:
    error = CommandTimeout(
        f"the host was not done after {longest_s(host):.0f} s",
        host=host.name,
        remedy="look at the host; raise command_timeout in the inventory if it is slow",
    )
    return host, None, error


def with_agent(host: Host, work: Callable[[AgentClient], T]) -> T:
    """Connect, do ``work``, close."""
    client = connect(host)
    try:
        return work(client)
    finally:
        client.close()


def damaged_jobs(results: Sequence[PerHost[Sequence[JobRecord]]]) -> list[PerHost[None]]:
    """An error for every job whose records its host cannot read."""
    return [
        (host, None, _damage(host, record))
        for host, records, _ in results
        for record in records or ()
        if record.state == DAMAGED
    ]


def _damage(host: Host, record: JobRecord) -> RigupError:
    evidence = record.verdict.evidence if record.verdict else "no reason told"
    return RigupError(
        f"job {record.job_id} is damaged: {evidence}",
        host=host.name,
        remedy=f"invoke stop {record.job_id} ends what still runs of it; its log and its outputs "
        "can be read as before",
    )


def find(
    job: str, inventory: Inventory, host: str | None, *, newest: bool = False
) -> tuple[Host, JobRecord]:
    """The one job whose id begins with ``job``: on ``host``, on the host remembered for it, else
    wherever it is found.

    Of several, the newest where ``newest`` allows it. Raises UsageError when there is none or
    more than one; the first host's error when a host could not be asked and no other has it. Where
    a remembered host cannot be asked, no other is: it could pass off a job of its own.
    """
    if not JOB_ID_PART.fullmatch(job):
        raise UsageError(f"{job!r} is no job id nor the beginning of one", remedy="invoke jobs")
    if host is None and (remembered := _remembered_hosts(job, inventory)):
        found, errors = _ask_for(job, remembered)
        if found:
            return _the_one(job, found, newest)
        if errors:
            raise errors[0]
    hosts = inventory.select(hosts=host, everything=host is None)
    found, errors = _ask_for(job, hosts)
    if found:
        return _the_one(job, found, newest)
    if errors:
        raise errors[0]
    raise UsageError(f"no job {job!r} on {len(hosts)} host(s)", remedy="invoke jobs")


def follow_log(
    reconnect: Connect,
    job_id: str,
    *,
    offset: int = 0,
    on_break: OnBreak | None = None,
    on_cut: OnCut = _ignore_cut,
    on_wait: OnWait | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[LogChunk]:
    """Every byte of a job's log from ``offset`` on, once, until the job has ended.

    ``on_wait`` is told each new reason why a queued job has not started. Where the job made its
    log shorter, ``on_cut`` is told, and the new log follows from its beginning.

    A broken link is reopened and the stream goes on at the very byte where it stopped;
    ``on_break`` is told the reason and the pause in seconds. Errors other than a lost, refused or
    silent connection are raised.
    """

    waits, reason = on_wait is not None, ""

    def read(client: AgentClient) -> LogChunk:
        wait_s = QUEUE_WAIT_S if waits else LOG_WAIT_S
        return client.read_log(job_id, offset, limit=LOG_CHUNK, wait_s=wait_s)

    with PatientAgent(reconnect, on_break=on_break, sleep=sleep) as agent:
        while True:
            chunk = agent.call(read)
            waits = on_wait is not None and chunk.record.state == QUEUED
            if on_wait is not None and chunk.record.waiting_for not in ("", reason):
                reason = chunk.record.waiting_for
                on_wait(reason)
            if chunk.size < offset:
                on_cut(offset, chunk.size)
                offset = 0
                continue
            offset = chunk.offset + len(chunk.data)
            yield chunk
            if chunk.record.is_final and offset >= chunk.size:
                return


def follow_to_end(
    reconnect: Connect,
    job_id: str,
    write: Callable[[bytes], None],
    *,
    offset: int = 0,
    on_break: OnBreak | None = None,
    on_cut: OnCut = _ignore_cut,
    on_wait: OnWait | None = None,
) -> JobRecord:
    """Write every byte of the log once and return the ended job. See :func:`follow_log`."""
    record: JobRecord | None = None
    for chunk in follow_log(
        reconnect, job_id, offset=offset, on_break=on_break, on_cut=on_cut, on_wait=on_wait
    ):
        write(chunk.data)
        record = chunk.record
    assert record is not None
    return record


def copy_log(
    client: AgentClient,
    job_id: str,
    offset: int,
    write: Callable[[bytes], None],
    on_cut: OnCut = _ignore_cut,
) -> None:
    """Write what the log holds now, from ``offset`` on; what the program adds meanwhile is left
    out. ``on_cut``: see :func:`follow_log`."""
    end: int | None = None
    while end is None or offset < end:
        chunk = client.read_log(job_id, offset, limit=LOG_CHUNK)
        if chunk.size < offset:
            on_cut(offset, chunk.size)
            offset, end = 0, chunk.size
            continue
        end = chunk.size if end is None else end
        if not chunk.data:
            return
        write(chunk.data[: end - offset])
        offset += len(chunk.data)


def remember(job_id: str, host: Host) -> None:
    """Which host has the job, so that :func:`find` asks no other."""
    write_private(_memory() / job_id, host.name.encode())


def _remembered_hosts(job: str, inventory: Inventory) -> tuple[Host, ...]:
    """The hosts that jobs of such an id were sent to from here, as far as they are still known."""
    names = {path.read_text() for path in _memory().glob(f"{glob.escape(job)}*")}
    known: list[Host] = []
    for name in sorted(names):
        with suppress(InventoryError):
            known.extend(inventory.select(hosts=name))
    return tuple(known)


def _ask_for(
    job: str, hosts: Sequence[Host]
) -> tuple[list[tuple[Host, JobRecord]], list[RigupError]]:
    results = on_each(hosts, lambda one: with_agent(one, lambda client: client.jobs()))
    found = [
        (one, record)
        for one, records, _ in results
        for record in records or ()
        if record.job_id.startswith(job)
    ]
    return found, [error for _, _, error in results if error is not None]


def _the_one(
    job: str, found: Sequence[tuple[Host, JobRecord]], newest: bool
) -> tuple[Host, JobRecord]:
    fitting = [pair for pair in found if pair[1].job_id == job] or found
    if len({record.job_id for _, record in fitting}) > 1 and not newest:
        names = ", ".join(record.job_id for _, record in found[:5])
        raise UsageError(f"{job!r} begins several jobs: {names}", remedy="type more of the id")
    chosen = max(fitting, key=lambda pair: pair[1].created_at)
    job_id = chosen[1].job_id
    claiming = [host.name for host, record in found if record.job_id == job_id]
    if len(claiming) > 1:
        raise UsageError(
            f"{' and '.join(claiming)} both say that they have {job_id}",
            remedy="name the right one with --host",
        )
    return chosen


def _memory() -> Path:
    return rigup_home() / "jobs-sent"
