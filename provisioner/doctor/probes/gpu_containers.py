"""Running containers that were given GPUs, and whether they still have them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, NeedsRoot, Output

ANSWER_WITHIN_S = 15
MOST_CONTAINERS = 32


@dataclass(frozen=True)
class GpuContainer:
    """``exit_code`` is that of ``nvidia-smi -L`` inside: 124 where it did not end in time, 126 or
    127 where the image has no nvidia-smi. ``said``: the end of what it printed."""

    name: str
    exit_code: int
    said: str


@dataclass(frozen=True)
class GpuContainerFacts:
    """``left_out``: more of them than are asked."""

    containers: tuple[GpuContainer, ...] = ()
    left_out: bool = False


# All containers are asked at the same time. One that only inherits NVIDIA_VISIBLE_DEVICES from its
# image, but was started without GPUs and without the nvidia runtime, has none to lose.
SCRIPT = rf"""
command -v docker >/dev/null || exit 0
ask() {{ timeout {ANSWER_WITHIN_S} docker "$@"; }}
ask ps -q >/dev/null 2>&1 || ask() {{ as_root timeout {ANSWER_WITHIN_S} docker "$@"; }}
ids=$(ask ps -q 2>&1) || {{ printf 'refused|%s\n' "$(echo $ids | cut -c -300)"; exit 0; }}
[ -n "$ids" ] || exit 0
form='{{{{.Id}}}}|{{{{.Name}}}}|{{{{json .HostConfig.DeviceRequests}}}}'
form="$form "'{{{{json .HostConfig.Devices}}}} runtime={{{{.HostConfig.Runtime}}}}'
ask inspect --format "$form" $ids 2>/dev/null | {{
  count=0
  while IFS='|' read -r id name told; do
    case $told in
      *'"gpu"'*|*nvidia.com/gpu*|*'"/dev/nvidia'*|*runtime=nvidia*) ;;
      *) continue ;;
    esac
    count=$((count + 1))
    [ $count -le {MOST_CONTAINERS} ] || {{ echo 'more|'; break; }}
    (
      answer=$({{ ask exec "$id" nvidia-smi -L; echo " =$?"; }} 2>&1 </dev/null |
        tail -c 1500 | tr '\n|' '  ')
      printf 'container|%s|%s\n' "${{name#/}}" "$answer"
    ) &
  done
  wait
}}
"""

ANSWER = re.compile(r"(.*) =(\d{1,3})\s*", re.DOTALL)


def parse(output: Output) -> GpuContainerFacts:
    rows = [line.split("|") for line in output.text.splitlines() if "|" in line]
    refused = [row[1] for row in rows if row[0] == "refused"]
    if refused and "sudo: " in refused[0]:
        raise NeedsRoot("docker may not be asked without root")
    if refused:
        raise ValueError("docker lists no containers")
    found = [_container(row) for row in rows if row[0] == "container" and len(row) == 3]
    return GpuContainerFacts(
        tuple(sorted(found, key=lambda one: one.name)), any(row[0] == "more" for row in rows)
    )


def _container(row: list[str]) -> GpuContainer:
    match = ANSWER.fullmatch(row[2])
    if match is None:
        raise ValueError(f"no exit code from the container {row[1]}")
    return GpuContainer(row[1], int(match[2]), match[1].strip())


GPU_CONTAINERS = Fact("gpu_containers", SCRIPT, parse, slow=True)
