"""The GPUs themselves, as nvidia-smi tells their condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from provisioner.doctor.finding import Finding, Severity
from provisioner.doctor.probes.gpu_health import GPU_HEALTH, GpuHealthFacts
from provisioner.doctor.scan import scan_lines
from provisioner.doctor.signatures import by_exit_code
from provisioner.doctor.situation import Situation, found

WHERE = "nvidia-smi"
NO_FAULT = {"", "n/a", "[n/a]", "[not supported]", "0", "no", "none", "enabled", "completed"}
SLOWDOWNS = {
    0x8: "hardware slowdown",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
}
"""Bits of clocks_event_reasons.active that mean trouble (NVML, nvmlClocksEventReasons)."""


@dataclass(frozen=True)
class Condition:
    """What a field's value means unless it says that nothing is wrong."""

    severity: Severity
    cause: str
    fix: str


CONDITIONS: Mapping[str, Condition] = {
    "persistence_mode": Condition(
        "warning",
        "persistence mode is off: each use of the idle GPU starts the driver anew (1 to 3 s)",
        "sudo nvidia-smi -pm 1 now; for good, nvidia-persistenced (invoke provision --host HOST)",
    ),
    "ecc.errors.uncorrected.volatile.total": Condition(
        "warning",
        "uncorrectable memory errors since the driver was loaded",
        "look for Xid 48, 63, 64, 94 or 95 in the kernel log",
    ),
    "remapped_rows.pending": Condition(
        "warning", "a row of memory waits to be remapped", "reset the GPU or reboot"
    ),
    "remapped_rows.failure": Condition(
        "problem", "remapping a row of memory failed", "have the GPU replaced"
    ),
    "retired_pages.pending": Condition(
        "warning", "a page of memory waits to be retired", "reset the GPU or reboot"
    ),
    "gpu_recovery_action": Condition(
        "problem", "the driver asks for a recovery of this GPU", "do what it asks for"
    ),
    "fabric.state": Condition(
        "problem",
        "the GPU is not part of its NVLink fabric",
        "systemctl status nvidia-fabricmanager; it must have exactly the driver's version",
    ),
}


def look(situation: Situation) -> Iterator[Finding]:
    health = situation.facts[GPU_HEALTH]
    yield from _said(health)
    for values in health.gpus:
        yield from _conditions(values)
        yield from _slowdowns(values)


def _said(health: GpuHealthFacts) -> Iterator[Finding]:
    """Known messages, then the exit code, where it means something that no message said."""
    known = scan_lines(health.said, WHERE)
    yield from known
    code = health.exit_code
    if not code:
        return
    meant = by_exit_code(code)
    evidence = f"exit code {code}: {' '.join(health.said)[:300]}"
    if meant is None:
        yield found(
            f"smi-exit-{code}",
            "problem",
            "driver",
            "nvidia-smi fails for a reason that rigup does not know",
            evidence=evidence,
            where=WHERE,
            fix="nvidia-smi; sudo dmesg | grep NVRM",
            source="man nvidia-smi(1) 550, return values",
        )
    elif not any(one.severity == "problem" for one in known):
        yield meant.finding(evidence, WHERE)


def _conditions(values: Mapping[str, str]) -> Iterator[Finding]:
    for field, condition in CONDITIONS.items():
        value = values.get(field, "")
        if value.lower() in NO_FAULT or value.startswith("["):
            continue
        yield found(
            field,
            condition.severity,
            _name(values),
            condition.cause,
            evidence=f"{field}: {value}",
            where=WHERE,
            fix=condition.fix,
        )


def _slowdowns(values: Mapping[str, str]) -> Iterator[Finding]:
    try:
        bits = int(values.get("clocks_event_reasons.active", "0"), 16)
    except ValueError:
        return
    reasons = [name for bit, name in SLOWDOWNS.items() if bits & bit]
    if reasons:
        yield found(
            "clocks-slowed",
            "warning",
            _name(values),
            f"the GPU slows itself down: {', '.join(reasons)}",
            evidence=f"clocks_event_reasons.active: {bits:#x}",
            where=WHERE,
            fix="check cooling and power supply; nvidia-smi -q -d PERFORMANCE,TEMPERATURE",
        )


def _name(values: Mapping[str, str]) -> str:
    return f"GPU {values.get('index', '?')} ({values.get('pci.bus_id', 'address unknown')})"
