"""An in-memory agent client: scripted, never waiting on real time unless it hangs on purpose."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from inventory.model import Host
from provisioner.errors import AgentError, ConnectError, ConnectionLost
from remote_agent.protocol.job import RUNNING, STOPPED, JobRecord, JobSpec, Verdict
from remote_agent.protocol.sample import GpuProcess, GpuSample, HostSample, Sample

GIB = 1024**3
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Chunk:
    offset: int
    data: bytes
    size: int
    record: JobRecord


def host(name: str) -> Host:
    return Host(name=name, address=name)


def gpu(index: int = 0, **values: object) -> GpuSample:
    base = GpuSample(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA GeForce RTX 4090",
        utilization=97,
        memory_used=int(21.3 * GIB),
        memory_total=24 * GIB,
        power=310.0,
        power_limit=450.0,
        temperature=71,
        processes=(GpuProcess(4242, 20 * GIB, "ada", "python"),),
    )
    return replace(base, **values)  # type: ignore[arg-type]


def sample(*gpus: GpuSample, taken_at: float = NOW, **values: object) -> Sample:
    machine = HostSample(
        cpu=12.0,
        cores=32,
        load1=1.2,
        memory_used=34 * GIB,
        memory_total=128 * GIB,
        disk_used=400 * GIB,
        disk_total=1000 * GIB,
        uptime_s=86_400.0 * 3,
    )
    return Sample(taken_at, machine, gpus, "580.95.05", **values)  # type: ignore[arg-type]


def job(job_id: str = "job-one", state: str = RUNNING, **values: object) -> JobRecord:
    spec = JobSpec(job_id, str(values.pop("name", "finetune")), ("python", "train.py"), gpus=1)
    return JobRecord(spec, state, created_at=NOW - 100, started_at=NOW - 90, **values)  # type: ignore[arg-type]


class FakeAgent:
    """One host's disk and its present link; ``connect`` is what the dashboard is given."""

    def __init__(self, *jobs: JobRecord, logs: dict[str, bytes] | None = None) -> None:
        self.records = {each.job_id: each for each in jobs}
        self.logs = dict(logs or {})
        self.first_items: list[Sample | tuple[JobRecord, ...]] = [sample(gpu())]
        self.refuse: Exception | None = None
        self.clients: list[FakeClient] = []
        self.stops: list[tuple[str, float]] = []
        self.stop_error: Exception | None = None
        self.reads: list[int] = []
        self.changed = threading.Condition()

    def connect(self, host: Host) -> FakeClient:
        if self.refuse is not None:
            raise self.refuse
        client = FakeClient(self)
        self.clients.append(client)
        return client

    def push(self, item: Sample | tuple[JobRecord, ...]) -> None:
        self.clients[-1].items.put(item)

    def append(self, job_id: str, data: bytes) -> None:
        with self.changed:
            self.logs[job_id] = self.logs.get(job_id, b"") + data
            self.changed.notify_all()

    def finish(self, job_id: str, state: str, verdict: Verdict | None = None) -> None:
        with self.changed:
            ended = replace(self.records[job_id], state=state, ended_at=NOW, verdict=verdict)
            self.records[job_id] = ended
            self.changed.notify_all()

    def cut(self) -> None:
        """The link breaks."""
        self.clients[-1].close()


class FakeClient:
    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.closed = False
        self.items: queue.SimpleQueue[Sample | tuple[JobRecord, ...] | None] = queue.SimpleQueue()
        for item in agent.first_items:
            self.items.put(item)

    def jobs(self) -> tuple[JobRecord, ...]:
        return tuple(self.agent.records.values())

    def watch(self, interval_s: float) -> FakeWatch:
        return FakeWatch(self)

    def read_log(
        self, job_id: str, offset: int, *, limit: int = 262_144, wait_s: float = 0.0
    ) -> Chunk:
        agent = self.agent
        with agent.changed:
            agent.reads.append(offset)
            if job_id not in agent.records:
                raise AgentError("no such job", code="no-such-job")
            log = agent.logs.get(job_id, b"")
            start = max(0, len(log) + offset) if offset < 0 else offset
            agent.changed.wait_for(lambda: self._has_news(job_id, start), wait_s)
            if self.closed:
                raise ConnectionLost("the link broke")
            log = agent.logs.get(job_id, b"")
            record = agent.records[job_id]
            return Chunk(start, log[start : start + limit], len(log), record)

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> JobRecord:
        self.agent.stops.append((job_id, grace_s))
        if self.agent.stop_error is not None:
            raise self.agent.stop_error
        self.agent.finish(job_id, STOPPED, Verdict("stopped-by-user"))
        return self.agent.records[job_id]

    def close(self) -> None:
        with self.agent.changed:
            self.closed = True
            self.agent.changed.notify_all()
        self.items.put(None)

    def _has_news(self, job_id: str, start: int) -> bool:
        known = self.agent.records[job_id]
        return self.closed or known.is_final or len(self.agent.logs.get(job_id, b"")) > start


class FakeWatch:
    def __init__(self, client: FakeClient) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Sample | tuple[JobRecord, ...]]:
        while True:
            item = self._client.items.get()
            if item is None:
                raise ConnectionLost("the link broke", remedy="wait, it is tried again")
            yield item

    def close(self) -> None:
        self._client.items.put(None)


class HangingConnect:
    """A host that never answers: the call returns only after ``release``."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.release = threading.Event()

    def __call__(self, host: Host) -> FakeClient:
        self.called.set()
        self.release.wait()
        raise ConnectError("timed out")
