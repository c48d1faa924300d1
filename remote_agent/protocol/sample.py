"""What a host and its GPUs were doing at one moment. None always means "not available",
never zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Optional, Tuple

from remote_agent.protocol.values import Value


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

    _nested: ClassVar[Dict[str, Any]] = {"processes": GpuProcess}

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


@dataclass(frozen=True)
class Sample(Value):
    """One moment on one host. ``taken_at``: seconds since the epoch, by the host's clock.
    ``gpu_error`` says why there are no GPU samples where NVML could not be used."""

    _nested: ClassVar[Dict[str, Any]] = {"host": HostSample, "gpus": GpuSample}

    taken_at: float
    host: HostSample
    gpus: Tuple[GpuSample, ...] = ()
    driver_version: Optional[str] = None
    gpu_error: Optional[str] = None
