"""Which GPUs a job can have, and why it has to wait for them: pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Optional

from remote_agent.metrics.nvml_client import GpuReading
from remote_agent.protocol.sample import GpuProcess, GpuSample

SERVICES = ("nvidia-cuda-mps",)
"""Show as compute processes (names as in /proc/PID/comm, 15 characters) and are none: CUDA's
multi-process service waits on the GPU for clients."""
PATIENCE_S = 900.0
"""A driver that is being upgraded, or a machine that is still booting, gets well by itself."""
NO_LIBRARY = 12
NO_LIBRARY_PATIENCE_S = 60.0
"""NVML_ERROR_LIBRARY_NOT_FOUND (nvml.h): nobody has installed a driver here."""


@dataclass(frozen=True)
class Obstacle:
    """Waiting for a GPU to become free does not help. ``patience_s``: how long it may last before
    the job is given up. Obstacles of the same ``kind`` in a row are one."""

    kind: str
    evidence: str
    hint: str
    patience_s: float = PATIENCE_S


def obstacle(needed: int, reading: GpuReading) -> Optional[Obstacle]:
    present = len(reading.gpus)
    if reading.error is not None:
        patience_s = NO_LIBRARY_PATIENCE_S if reading.error_number == NO_LIBRARY else PATIENCE_S
        hint = "run `rigup provision` for this host, or ask for --gpus 0"
        return Obstacle("nvml", reading.error, hint, patience_s)
    if needed > present:
        evidence = "it asks for %d GPUs and the host has %d" % (needed, present)
        return Obstacle("count", evidence, _ask_less(present), 0.0)
    broken = [gpu for gpu in reading.gpus if _defect(gpu)]
    usable = present - len(broken)
    if needed > usable:
        reasons = "; ".join("GPU %d: %s" % (gpu.index, _defect(gpu)) for gpu in broken)
        evidence = "it asks for %d GPUs and %d can be used (%s)" % (needed, usable, reasons)
        return Obstacle("usable", evidence, _ask_less(usable))
    return None


def is_idle(gpu: GpuSample) -> bool:
    """Certainly nobody computes on it, it is healthy, and it is not split into MIG instances."""
    return not _defect(gpu) and not _foreign(gpu)


def waiting_for(needed: int, reading: GpuReading, holder: Callable[[str], str]) -> str:
    """What people are told about a job that waits for busy GPUs. ``holder``: of a UUID, the job
    for which it is leased, and whose, or ""."""
    taken = [text for text in (_occupied(gpu, holder) for gpu in reading.gpus) if text]
    free = len(reading.gpus) - len(taken)
    return "%d of its %d GPUs (%s)" % (max(0, needed - free), needed, "; ".join(taken))


def _occupied(gpu: GpuSample, holder: Callable[[str], str]) -> str:
    said = _defect(gpu)
    job = "" if said else holder(gpu.uuid)
    if job:
        said = "leased to %s" % job
    if not said:
        said = ", ".join(map(_described, _foreign(gpu)[:2]))
    return "GPU %d: %s" % (gpu.index, said) if said else ""


def _described(process: GpuProcess) -> str:
    return "%s of %s (pid %d)" % (process.name or "a process", process.user or "?", process.pid)


def _defect(gpu: GpuSample) -> str:
    if gpu.error is not None:
        return gpu.error
    if gpu.mig_enabled:
        return "split into MIG instances"
    return "" if gpu.processes_known else "the driver does not tell its processes"


def _foreign(gpu: GpuSample) -> List[GpuProcess]:
    return [process for process in gpu.processes if process.name not in SERVICES]


def _ask_less(count: int) -> str:
    return "ask for at most %d, or choose another host" % count
