"""Which GPUs a job can have, and why it has to wait for them: pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

from remote_agent.metrics.nvml_client import GpuReading
from remote_agent.protocol.sample import GpuProcess, GpuSample

PATIENCE_S = 900.0
"""A driver that is being upgraded, or a machine that is still booting, gets well by itself."""
NO_LIBRARY = 12
NO_LIBRARY_PATIENCE_S = 60.0
"""NVML_ERROR_LIBRARY_NOT_FOUND (nvml.h): nobody has installed a driver here."""
ASK_OTHERS = "ask for other GPUs (`nvidia-smi -L` lists them), or choose another host"


@dataclass(frozen=True)
class Obstacle:
    """Waiting for a GPU to become free does not help. ``patience_s``: how long it may last before
    the job is given up. Obstacles of the same ``kind`` in a row are one."""

    kind: str
    evidence: str
    hint: str
    patience_s: float = PATIENCE_S


def obstacle(needed: int, reading: GpuReading, indices: Sequence[int] = ()) -> Optional[Obstacle]:
    """``indices``: the GPUs that it must be; () for any."""
    present = len(reading.gpus)
    if reading.error is not None:
        patience_s = NO_LIBRARY_PATIENCE_S if reading.error_number == NO_LIBRARY else PATIENCE_S
        hint = "run `rigup provision` for this host, or ask for --gpus 0"
        return Obstacle("nvml", reading.error, hint, patience_s)
    absent = sorted(set(indices) - {gpu.index for gpu in reading.gpus})
    if absent:
        evidence = "it asks for GPU %s and the host has %s" % (_listed(absent), _present(reading))
        return Obstacle("count", evidence, ASK_OTHERS, 0.0)
    if needed > present:
        evidence = "it asks for %d GPUs and the host has %d" % (needed, present)
        return Obstacle("count", evidence, _ask_less(present), 0.0)
    broken = [gpu for gpu in candidates(reading.gpus, indices) if gpu.defect]
    reasons = "; ".join("GPU %d: %s" % (gpu.index, gpu.defect) for gpu in broken)
    if indices and broken:
        return Obstacle("usable", "it asks for GPUs that cannot be used (%s)" % reasons, ASK_OTHERS)
    usable = present - len(broken)
    if needed > usable:
        evidence = "it asks for %d GPUs and %d can be used (%s)" % (needed, usable, reasons)
        return Obstacle("usable", evidence, _ask_less(usable))
    return None


def candidates(gpus: Sequence[GpuSample], indices: Sequence[int]) -> Tuple[GpuSample, ...]:
    """The GPUs that a job may have, in the order in which it asked for them: all where it asked
    for none by its index."""
    if not indices:
        return tuple(gpus)
    known = {gpu.index: gpu for gpu in gpus}
    return tuple(known[index] for index in indices if index in known)


def is_idle(gpu: GpuSample) -> bool:
    """Certainly nobody computes on it, it is healthy, and it is not split into MIG instances."""
    return not gpu.defect and not gpu.computing


def waiting_for(needed: int, gpus: Sequence[GpuSample], holder: Callable[[str], str]) -> str:
    """What people are told about a job that waits for busy GPUs. ``gpus``: those that it may have.
    ``holder``: of a UUID, the job for which it is leased, and whose, or ""."""
    taken = [text for text in (_occupied(gpu, holder) for gpu in gpus) if text]
    free = len(gpus) - len(taken)
    return "%d of its %d GPUs (%s)" % (max(0, needed - free), needed, "; ".join(taken))


def _occupied(gpu: GpuSample, holder: Callable[[str], str]) -> str:
    said = gpu.defect
    job = "" if said else holder(gpu.uuid)
    if job:
        said = "leased to %s" % job
    if not said:
        said = ", ".join(map(_described, gpu.computing[:2]))
    return "GPU %d: %s" % (gpu.index, said) if said else ""


def _described(process: GpuProcess) -> str:
    return "%s of %s (pid %d)" % (process.name or "a process", process.user or "?", process.pid)


def _ask_less(count: int) -> str:
    return "ask for at most %d, or choose another host" % count


def _present(reading: GpuReading) -> str:
    """``0 to 3``; ``0, 2, 3`` where the driver does not show one of them."""
    found = sorted(gpu.index for gpu in reading.gpus)
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return "%d to %d" % (found[0], found[-1])
    return _listed(found) or "none"


def _listed(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices))
