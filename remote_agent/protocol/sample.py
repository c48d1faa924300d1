"""What a host and its GPUs were doing at one moment. None always means "not available",
never zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from remote_agent.protocol.values import ProtocolError, Value, check_count, check_time

SERVICES = ("nvidia-cuda-mps",)
"""Show as compute processes (names as in /proc/PID/comm, 15 characters) and are none: CUDA's
multi-process service waits on the GPU for clients."""
MAX_GPUS = 1024
MAX_PERCENT = 1000
"""Some drivers tell a little more than 100."""
MAX_PROCESSES = 10_000
MAX_SAMPLE = 2 << 20
"""Bytes of one sample as JSON: 8 GPUs with 100 processes each have 100 KB."""


@dataclass(frozen=True)
class GpuProcess(Value):
    """A compute process on a GPU. ``job_id`` when it belongs to a rigup job."""

    pid: int
    memory_bytes: Optional[int] = None
    user: Optional[str] = None
    name: Optional[str] = None
    job_id: Optional[str] = None


@dataclass(frozen=True)
class GpuSample(Value):
    """One GPU. Utilisation in percent 0-100, memory in bytes, power in watts, temperature in
    degrees Celsius, clocks in MHz, fan in percent. ``processes_known`` is False where the driver
    did not tell its processes: then none listed does not mean none there. ``pci`` is the address as
    the kernel log writes it, such as 0000:05:00."""

    index: int
    uuid: str
    name: str
    simulated: bool = False
    utilization: Optional[int] = None
    memory_used: Optional[int] = None
    memory_total: Optional[int] = None
    power: Optional[float] = None
    power_limit: Optional[float] = None
    temperature: Optional[int] = None
    fan: Optional[int] = None
    sm_clock: Optional[int] = None
    pstate: Optional[int] = None
    throttle_reasons: Tuple[str, ...] = ()
    ecc_uncorrected: Optional[int] = None
    mig_enabled: Optional[bool] = None
    processes: Tuple[GpuProcess, ...] = ()
    processes_known: bool = True
    pci: Optional[str] = None
    error: Optional[str] = None
    job_id: Optional[str] = None

    @property
    def defect(self) -> str:
        """Why no job can have it, "" where one can."""
        if self.error is not None:
            return self.error
        if self.mig_enabled:
            return "split into MIG instances"
        return "" if self.processes_known else "the driver does not tell its processes"

    @property
    def computing(self) -> Tuple[GpuProcess, ...]:
        """The processes on it that are no service."""
        return tuple(process for process in self.processes if process.name not in SERVICES)

    def check(self) -> None:
        check_count(self.index, "index", MAX_GPUS)
        check_count(self.utilization, "utilization", MAX_PERCENT)
        check_count(self.memory_used, "memory_used")
        check_count(self.memory_total, "memory_total")
        if len(self.processes) > MAX_PROCESSES:
            raise ProtocolError("a GPU with %d processes" % len(self.processes))


@dataclass(frozen=True)
class HostSample(Value):
    """The machine itself. cpu in percent of all cores, memory and disk in bytes."""

    cpu: Optional[float] = None
    cores: Optional[int] = None
    load1: Optional[float] = None
    memory_used: Optional[int] = None
    memory_total: Optional[int] = None
    disk_used: Optional[int] = None
    disk_total: Optional[int] = None
    uptime_s: Optional[float] = None

    def check(self) -> None:
        for name, value in vars(self).items():
            check_count(value, name)


@dataclass(frozen=True)
class Sample(Value):
    """One moment on one host. ``taken_at``: seconds since the epoch, by the host's clock.
    ``gpu_error`` says why there are no GPU samples where NVML could not be used."""

    taken_at: float
    host: HostSample
    gpus: Tuple[GpuSample, ...] = ()
    driver_version: Optional[str] = None
    gpu_error: Optional[str] = None

    def check(self) -> None:
        check_time(self.taken_at, "taken_at")
        if len(self.gpus) > MAX_GPUS:
            raise ProtocolError("a host with %d GPUs" % len(self.gpus))
