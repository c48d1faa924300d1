"""What the dashboard knows: one frozen value, changed only by ``reduce(state, message)``.

::

    CONNECTING ──> ONLINE <──> OFFLINE     an offline host keeps its reason while it is retried
         └───────────────────────^
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

from remote_agent.protocol.job import QUEUED, RUNNING, STARTING, JobRecord
from remote_agent.protocol.sample import GpuSample, Sample
from tui.text import number

HISTORY = 120
"""Samples kept per GPU for its graphs."""


class Link(Enum):
    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"


@dataclass(frozen=True)
class GpuHistory:
    """Oldest first; None where a value was not available."""

    utilization: tuple[float | None, ...] = ()
    power: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class HostState:
    """One host. ``sampled_at`` and ``retry_at`` are local monotonic seconds; ``clock_skew`` is
    the host's clock minus ours, in seconds. ``jobs`` outlive the link: see ``known_jobs``."""

    name: str
    link: Link = Link.CONNECTING
    reason: str = ""
    remedy: str = ""
    retry_at: float | None = None
    sample: Sample | None = None
    sampled_at: float | None = None
    clock_skew: float = 0.0
    jobs: Mapping[str, JobRecord] = field(default_factory=lambda: MappingProxyType({}))
    history: Mapping[int, GpuHistory] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_online(self) -> bool:
        return self.link is Link.ONLINE

    @property
    def is_settled(self) -> bool:
        """Online with a sample, or offline with a reason."""
        return self.link is Link.OFFLINE or (self.is_online and self.sample is not None)


@dataclass(frozen=True)
class HostConnecting:
    host: str


@dataclass(frozen=True)
class HostOnline:
    host: str
    jobs: tuple[JobRecord, ...] = ()


@dataclass(frozen=True)
class HostOffline:
    """``retry_at``: local monotonic seconds of the next attempt."""

    host: str
    reason: str
    remedy: str = ""
    retry_at: float | None = None


@dataclass(frozen=True)
class SampleArrived:
    """``at``: local monotonic seconds; ``wall``: local seconds since the epoch."""

    host: str
    sample: Sample
    at: float
    wall: float


@dataclass(frozen=True)
class JobsArrived:
    """Every job of the host."""

    host: str
    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True)
class JobChanged:
    """One job, learnt beside the watch: from its log or from a stop request."""

    host: str
    record: JobRecord


Message: TypeAlias = (
    HostConnecting | HostOnline | HostOffline | SampleArrived | JobsArrived | JobChanged
)


@dataclass(frozen=True)
class FleetState:
    """All hosts, in inventory order."""

    hosts: Mapping[str, HostState]

    @classmethod
    def of(cls, names: Iterable[str]) -> FleetState:
        return cls(MappingProxyType({name: HostState(name) for name in names}))

    @property
    def online(self) -> int:
        return sum(host.is_online for host in self.hosts.values())

    @property
    def is_settled(self) -> bool:
        return all(host.is_settled for host in self.hosts.values())

    def gpus(self) -> list[GpuSample]:
        """GPUs of the hosts that are online."""
        samples = (host.sample for host in self.hosts.values() if host.sample)
        return [gpu for sample in samples for gpu in sample.gpus]

    def count_jobs(self, *states: str) -> int:
        """Jobs in one of ``states`` on hosts that are online: elsewhere nobody knows."""
        online = (host for host in self.hosts.values() if host.is_online)
        return sum(job.state in states for host in online for job in host.jobs.values())

    def job(self, host: str, job_id: str) -> JobRecord | None:
        found = self.hosts.get(host)
        return found.jobs.get(job_id) if found else None

    def all_jobs(self) -> list[tuple[HostState, JobRecord]]:
        """Running, then starting, then queued jobs, then ended ones; the newest first."""
        pairs = [(host, job) for host in self.hosts.values() for job in host.jobs.values()]
        return sorted(pairs, key=_job_order)


def reduce(state: FleetState, message: Message) -> FleetState:
    """The state after ``message``. A message about an unknown host changes nothing."""
    host = state.hosts.get(message.host)
    if host is None:
        return state
    after = _reduce_host(host, message)
    if after is host:
        return state
    return FleetState(MappingProxyType({**state.hosts, host.name: after}))


def _reduce_host(host: HostState, message: Message) -> HostState:
    match message:
        case HostConnecting():
            return replace(host, retry_at=None)
        case HostOnline():
            jobs = _merge(host.jobs, message.jobs)
            return HostState(host.name, Link.ONLINE, jobs=jobs, history=host.history)
        case HostOffline():
            return HostState(
                host.name,
                Link.OFFLINE,
                reason=message.reason,
                remedy=message.remedy,
                retry_at=message.retry_at,
                clock_skew=host.clock_skew,
                jobs=host.jobs,
            )
        case SampleArrived():
            return _sampled(host, message) if host.is_online else host
        case JobsArrived():
            return replace(host, jobs=_merge(host.jobs, message.jobs)) if host.is_online else host
        case JobChanged():
            jobs = _merge(host.jobs, (*host.jobs.values(), message.record))
            return replace(host, jobs=jobs)


def _sampled(host: HostState, message: SampleArrived) -> HostState:
    taken = number(message.sample.taken_at)
    return replace(
        host,
        sample=message.sample,
        sampled_at=message.at,
        clock_skew=host.clock_skew if taken is None else taken - message.wall,
        history=_remember(host.history, message.sample),
    )


def _remember(history: Mapping[int, GpuHistory], sample: Sample) -> Mapping[int, GpuHistory]:
    kept = {gpu.index: history.get(gpu.index, GpuHistory()) for gpu in sample.gpus}
    for gpu in sample.gpus:
        before = kept[gpu.index]
        kept[gpu.index] = GpuHistory(
            (*before.utilization[1 - HISTORY :], number(gpu.utilization)),
            (*before.power[1 - HISTORY :], number(gpu.power)),
        )
    return MappingProxyType(kept)


def _merge(
    before: Mapping[str, JobRecord], records: Iterable[JobRecord]
) -> Mapping[str, JobRecord]:
    """The jobs in ``records``; what is already known wins over older news of the same job."""
    merged: dict[str, JobRecord] = {}
    for record in records:
        known = merged.get(record.job_id) or before.get(record.job_id)
        merged[record.job_id] = record if known is None else _newer(known, record)
    return MappingProxyType(merged)


def _newer(known: JobRecord, news: JobRecord) -> JobRecord:
    """Two records of a job arrive over two requests, so not always in order."""
    return known if _progress(known) > _progress(news) else news


def _progress(job: JobRecord) -> tuple[int, int]:
    order = {QUEUED: 0, STARTING: 1, RUNNING: 2}
    return order.get(job.state, 3), job.log_bytes


def _job_order(pair: tuple[HostState, JobRecord]) -> tuple[int, float, str]:
    job = pair[1]
    order = {RUNNING: 0, STARTING: 1, QUEUED: 2}
    began = number(job.started_at) or number(job.created_at) or 0.0
    return order.get(job.state, 3), -began, job.job_id
