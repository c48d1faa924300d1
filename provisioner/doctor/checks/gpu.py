"""The GPUs themselves, as nvidia-smi tells their condition: provisioner/data/gpu_health.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from provisioner import data
from provisioner.doctor.checks.gpu_heat import heat
from provisioner.doctor.finding import SEVERITIES, Finding
from provisioner.doctor.probes.gpu_health import GPU_HEALTH, GpuHealthFacts
from provisioner.doctor.scan import scan_lines
from provisioner.doctor.signatures import by_exit_code
from provisioner.doctor.situation import Situation, found
from provisioner.facts import GPU
from provisioner.facts.gpu import GpuFacts

WHERE = "nvidia-smi"
NOT_THERE = ("", "n/a", "[n/a]", "[not supported]", "[requested functionality has been deprecated]")
NO_FAULT = {*NOT_THERE, "0", "no", "none", "enabled", "completed"}
BUSY_STATES = ("P0", "P1", "P2")
"""Performance states in which the link runs at full speed; in others it saves power."""


def look(situation: Situation) -> Iterator[Finding]:
    health = situation.facts[GPU_HEALTH]
    yield from _said(health)
    yield from _silent(situation.facts[GPU], health)
    for values in health.gpus:
        name = _name(values)
        yield from _unread(name, values)
        yield from _conditions(name, values)
        yield from heat(name, values, health.limits.get(values.get("pci.bus_id", ""), {}))
        yield from _slowdowns(name, values)
        yield from _link(name, values)


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


def _silent(gpu: GpuFacts, health: GpuHealthFacts) -> Iterator[Finding]:
    """GPUs that tell nothing of their condition, although no error says why."""
    told, listed = len(health.gpus), len(gpu.gpus)
    if health.exit_code is None and gpu.present and gpu.module_version:
        evidence = "there is no nvidia-smi, and the driver's module is loaded"
    elif health.exit_code == 0 and told < listed:
        evidence = f"{listed} GPU(s) are listed, {told} tell(s) it"
    else:
        return
    yield found(
        "gpu-condition-unread",
        "unread",
        "GPUs",
        "the condition of GPUs could not be read",
        evidence=evidence,
        where=WHERE,
        fix="nvidia-smi -q on the host; where it is not installed, invoke provision --host HOST",
    )


def _unread(name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Fields for which nvidia-smi writes an error, such as ``[Unknown Error]``: not the same as
    fields that a GPU does not have."""
    failed = [
        f"{field}: {value}"
        for field, value in values.items()
        if value.startswith(("[", "ERR!")) and value.lower() not in NOT_THERE
    ]
    if failed:
        yield found(
            "gpu-field-unread",
            "unread",
            name,
            "the GPU does not answer all questions about its condition",
            evidence=", ".join(failed)[:300],
            where=WHERE,
            fix="sudo dmesg | grep NVRM; an error of this kind often means that the GPU is faulty",
        )


def _conditions(name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    table: dict[str, Any] = data.load("gpu_health")["conditions"]
    for field, condition in table.items():
        value = values.get(field, "")
        if value.lower() in NO_FAULT or value.startswith(("[", "ERR!")):
            continue
        yield found(
            field,
            condition["severity"],
            name,
            condition["cause"],
            evidence=f"{field}: {value}",
            where=WHERE,
            fix=condition["fix"],
            source=condition["source"],
        )


def _slowdowns(name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    field = next((key for key in values if key.endswith("_reasons.active")), "")
    try:
        bits = int(values.get(field, "0"), 16)
    except ValueError:
        return
    active = [row for row in data.load("gpu_health")["slowdowns"] if bits & row["bit"]]
    if active:
        yield found(
            "clocks-slowed",
            min((row["severity"] for row in active), key=SEVERITIES.index),
            name,
            f"the GPU slows itself down: {', '.join(row['name'] for row in active)}",
            evidence=f"{field}: {bits:#x}",
            where=WHERE,
            fix="check cooling and power supply; nvidia-smi -q -d PERFORMANCE,TEMPERATURE",
            source="NVML, nvmlClocksEventReasons",
        )


def _link(name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Fewer lanes than card and slot have are never normal, a lower speed only when idle."""
    for what, unit in (("width", "x"), ("gen", "generation ")):
        now, best = (values.get(f"pcie.link.{what}.{key}", "") for key in ("current", "max"))
        at_work = what == "width" or values.get("pstate") in BUSY_STATES
        if now.isdecimal() and best.isdecimal() and 0 < int(now) < int(best) and at_work:
            yield found(
                f"pcie-{what}-degraded",
                "warning",
                name,
                "the PCIe link is slower than the card and its slot allow",
                evidence=f"{unit}{now} of {unit}{best}",
                where=WHERE,
                fix="reseat the card and its riser; sudo lspci -vv shows LnkSta (downgraded)",
                source="SMI, pcie.link",
            )


def _name(values: Mapping[str, str]) -> str:
    return f"GPU {values.get('index', '?')} ({values.get('pci.bus_id', 'address unknown')})"
