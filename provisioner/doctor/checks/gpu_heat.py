"""Is a GPU too hot? Compared with the thresholds that the card itself tells, where it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from provisioner import data
from provisioner.doctor.finding import Finding, Severity
from provisioner.doctor.situation import found

FIX = (
    "check fans, dust, air flow and the room's temperature; until then, sudo nvidia-smi -pl WATTS "
    "lowers the power limit"
)


def heat(name: str, values: Mapping[str, str], limits: Mapping[str, int]) -> Iterator[Finding]:
    """At or above the slowdown threshold is a problem, at or above the highest temperature for
    work a warning. ``limits``: the card's own thresholds. Recent cards tell a margin that sinks
    (T.Limit) instead of a temperature."""
    table = data.load("gpu_health")
    now = _number(values.get("temperature.gpu"))
    margin = _number(values.get("temperature.gpu.tlimit"))
    slowdown_margin = limits.get("GPU Slowdown T.Limit Temp")
    if margin is not None and slowdown_margin is not None:
        told = f"{margin} C to the limit, slowdown at {slowdown_margin} C; now {now} C"
        if margin <= slowdown_margin:
            yield _hot(name, "problem", "it slows itself down, then turns itself off", told)
        elif margin <= limits.get("GPU Max Operating T.Limit Temp", 0):
            yield _hot(name, "warning", "hotter than it should work at", told)
    elif now is not None:
        slowdown = limits.get("GPU Slowdown Temp", table["default_slowdown_c"])
        highest = limits.get("GPU Max Operating Temp", slowdown)
        own = "" if "GPU Slowdown Temp" in limits else " (the card tells none: a usual value)"
        told = f"{now} C, slowdown at {slowdown} C{own}"
        if now >= slowdown:
            yield _hot(name, "problem", "it slows itself down, then turns itself off", told)
        elif now >= highest:
            yield _hot(name, "warning", "hotter than it should work at", told)
    memory = _number(values.get("temperature.memory"))
    most = limits.get("Memory Max Operating Temp", table["default_memory_max_c"])
    if memory is not None and memory >= most:
        told = f"memory {memory} C, highest for work {most} C"
        yield _hot(name, "warning", "its memory is hotter than it should work at", told)


def _hot(name: str, severity: Severity, cause: str, evidence: str) -> Finding:
    return found(
        "gpu-memory-hot" if "memory" in cause else "gpu-hot",
        severity,
        name,
        f"the GPU is too hot: {cause}",
        evidence=evidence,
        where="nvidia-smi -q -d TEMPERATURE",
        fix=FIX,
        source="SMI, temperature readings",
    )


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None
