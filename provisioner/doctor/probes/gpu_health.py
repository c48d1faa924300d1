"""How nvidia-smi ends, and what it tells about each GPU's condition."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from provisioner.facts.base import Fact, Output
from provisioner.facts.gpu_script import SMI_LIMIT_S

WANTED = (
    *("index", "pci.bus_id", "persistence_mode", "pstate"),
    *("ecc.errors.uncorrected.volatile.total", "ecc.errors.uncorrected.aggregate.total"),
    "ecc.errors.uncorrected.aggregate.sram",
    "ecc.errors.uncorrected.aggregate.sram.thresholdExceeded",
    *("remapped_rows.pending", "remapped_rows.failure", "retired_pages.pending"),
    *("temperature.gpu", "temperature.memory", "temperature.gpu.tlimit"),
    *("clocks_event_reasons.active", "clocks_throttle_reasons.active"),
    *("pcie.link.width.current", "pcie.link.width.max"),
    *("pcie.link.gen.current", "pcie.link.gen.max"),
    *("gpu_recovery_action", "fabric.state"),
)
"""nvidia-smi's fields, of which those are asked for that the driver knows: an unknown one fails the
whole query."""
MAX_LIMIT_LINES = 1_024


@dataclass(frozen=True)
class GpuHealthFacts:
    """``exit_code`` is None where there is no nvidia-smi. ``said``: its output where it failed.
    ``gpus``: field -> value per GPU, as nvidia-smi writes it. ``limits``: pci.bus_id -> name, such
    as ``GPU Slowdown Temp``, -> degrees Celsius of the thresholds that a GPU tells."""

    exit_code: int | None
    said: tuple[str, ...] = ()
    gpus: tuple[Mapping[str, str], ...] = ()
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


SCRIPT = f"""
command -v nvidia-smi >/dev/null || exit 0
LIMIT_S={SMI_LIMIT_S}
known=$(limited nvidia-smi --help-query-gpu 2>/dev/null)
fields=
for field in {" ".join(WANTED)}; do
  case $known in *"\\"$field\\""*) fields="${{fields:+$fields,}}$field" ;; esac
done
printf 'fields|%s\\n' "$fields"
limited nvidia-smi -q -d TEMPERATURE 2>/dev/null |
  grep -E '^GPU |Temp' | head -n {MAX_LIMIT_LINES} | cut -c -120 | sed 's/^/limit|/'
{{
  limited nvidia-smi --format=csv,noheader,nounits "--query-gpu=${{fields:-index}}" 2>&1
  printf 'exit|%s\\n' "$?"
}} | cut -c -900 | sed '/^exit|/!s/^/row|/'
"""

LIMIT = re.compile(r" +([A-Z][A-Za-z. ]{1,60}Temp) +: (-?\d{1,3}) C")


def parse(output: Output) -> GpuHealthFacts:
    rows = [line.partition("|") for line in output.text.splitlines() if "|" in line]
    codes = [text for kind, _, text in rows if kind == "exit"]
    if not codes:
        if rows:
            raise ValueError("nvidia-smi did not come to an end")
        return GpuHealthFacts(None)
    fields = next((text.split(",") for kind, _, text in rows if kind == "fields"), [])
    told = [text.strip() for kind, _, text in rows if kind == "row"]
    values = [text.split(", ") for text in told]
    return GpuHealthFacts(
        exit_code=int(codes[-1]),
        said=tuple(told),
        gpus=tuple(
            dict(zip(fields, row, strict=True)) for row in values if len(row) == len(fields) > 1
        ),
        limits=_limits(text for kind, _, text in rows if kind == "limit"),
    )


def _limits(lines: Iterable[str]) -> dict[str, dict[str, int]]:
    limits: dict[str, dict[str, int]] = {}
    current: dict[str, int] = {}
    for line in lines:
        if line.startswith("GPU "):
            current = limits.setdefault(line[4:].strip(), {})
        elif match := LIMIT.fullmatch(line.rstrip()):
            current[re.sub(" +", " ", match[1])] = int(match[2])
    return limits


GPU_HEALTH = Fact("gpu_health", SCRIPT, parse, slow=True)
