"""How nvidia-smi ends, and what it tells about each GPU's condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output
from provisioner.facts.gpu_script import SMI_LIMIT_S

WANTED = (
    *("index", "pci.bus_id", "persistence_mode", "ecc.errors.uncorrected.volatile.total"),
    *("remapped_rows.pending", "remapped_rows.failure", "retired_pages.pending"),
    *("clocks_event_reasons.active", "gpu_recovery_action", "fabric.state"),
)
"""nvidia-smi's fields, of which those are asked for that the driver knows: an unknown one fails the
whole query."""


@dataclass(frozen=True)
class GpuHealthFacts:
    """``exit_code`` is None where there is no nvidia-smi. ``said``: its output where it failed.
    ``gpus``: field -> value per GPU, as nvidia-smi writes it."""

    exit_code: int | None
    said: tuple[str, ...] = ()
    gpus: tuple[Mapping[str, str], ...] = ()


SCRIPT = f"""
command -v nvidia-smi >/dev/null || exit 0
LIMIT_S={SMI_LIMIT_S}
known=$(limited nvidia-smi --help-query-gpu 2>/dev/null)
fields=
for field in {" ".join(WANTED)}; do
  case $known in *"\\"$field\\""*) fields="${{fields:+$fields,}}$field" ;; esac
done
printf 'fields|%s\\n' "$fields"
{{
  limited nvidia-smi --format=csv,noheader,nounits "--query-gpu=${{fields:-index}}" 2>&1
  printf 'exit|%s\\n' "$?"
}} | cut -c -600 | sed '/^exit|/!s/^/row|/'
"""


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
    )


GPU_HEALTH = Fact("gpu_health", SCRIPT, parse, slow=True)
