"""One sample: the machine, its GPUs, and which rigup job has which GPU."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Dict, Generator, Iterator, Optional, Tuple

from remote_agent.metrics.host import HostMeter
from remote_agent.metrics.nvml_client import NvmlClient
from remote_agent.protocol.job import RUNNING, STARTING
from remote_agent.protocol.sample import GpuSample, Sample
from remote_agent.store import JobStore
from remote_agent.tasks import Wait

PRIMING_S = 0.1
SHARED_S = 0.15
"""Samples asked for within this time of one another are one sample: processor use needs some time
between two looks, and GPUs need not be asked twice."""


class Sampler:
    """Keeps its NVML helper only while somebody watches (:meth:`watching`)."""

    def __init__(self, disk_path: str) -> None:
        self._host = HostMeter(disk_path)
        self._nvml = NvmlClient()
        self._watchers = 0
        self._busy = False
        self._last: Optional[Tuple[float, Sample]] = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._nvml.close()

    def sample(self, store: JobStore) -> Generator[Wait, None, Sample]:
        while self._busy:
            yield Wait(SHARED_S / 5)
        if self._last is not None and time.monotonic() - self._last[0] < SHARED_S:
            return self._last[1]
        self._busy = True
        try:
            with self.watching():
                sample = yield from self._take(store)
        finally:
            self._busy = False
        self._last = (time.monotonic(), sample)
        return sample

    def close(self) -> None:
        self._nvml.close()

    def _take(self, store: JobStore) -> Generator[Wait, None, Sample]:
        if not self._host.primed:
            self._host.prime()
            yield Wait(PRIMING_S)
        reading = yield from self._nvml.read()
        jobs = _gpu_jobs(store)
        return Sample(
            taken_at=time.time(),
            host=self._host.read(),
            gpus=tuple(_with_job(gpu, jobs.get(gpu.index)) for gpu in reading.gpus),
            driver_version=reading.driver_version,
            gpu_error=reading.error,
        )


def _gpu_jobs(store: JobStore) -> Dict[int, str]:
    return {
        index: record.job_id
        for record in store.records()
        if record.state in (STARTING, RUNNING)
        for index in record.gpu_ids
    }


def _with_job(gpu: GpuSample, job_id: Optional[str]) -> GpuSample:
    """The lease tells whose a GPU is; without one, the marked processes on it do."""
    found = job_id or next((p.job_id for p in gpu.processes if p.job_id), None)
    return GpuSample(**dict(vars(gpu), job_id=found))
