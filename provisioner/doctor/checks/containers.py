"""Running containers that were given GPUs: do they still have them?"""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.doctor.finding import Finding
from provisioner.doctor.probes.gpu_containers import (
    GPU_CONTAINERS,
    MOST_CONTAINERS,
    GpuContainer,
)
from provisioner.doctor.scan import scan_lines
from provisioner.doctor.situation import Situation, found

NO_PROGRAM = (126, 127)
NO_ANSWER = 124


def look(situation: Situation) -> Iterator[Finding]:
    asked = situation.facts[GPU_CONTAINERS]
    for container in asked.containers:
        if container.exit_code not in (0, *NO_PROGRAM):
            yield _lost(container)
    if asked.left_out:
        yield found(
            "containers-not-asked",
            "note",
            "containers",
            f"only {MOST_CONTAINERS} of the containers with GPUs were asked",
            evidence="docker ps",
            where="docker ps",
            fix="docker exec NAME nvidia-smi -L for the others",
        )


def _lost(container: GpuContainer) -> Finding:
    known = scan_lines([container.said], container.name)
    if container.exit_code == NO_ANSWER:
        cause, fix = "nvidia-smi does not answer in this container", "look at the driver first"
    elif known:
        cause, fix = known[0].cause, known[0].fix
    else:
        cause = "nvidia-smi fails in this container"
        fix = f"docker restart {container.name}, or recreate it"
    return found(
        "container-gpus-lost",
        "problem",
        f"container {container.name}",
        f"it was given GPUs and cannot use them: {cause}",
        evidence=f"exit code {container.exit_code}: {container.said}",
        where=f"docker exec {container.name} nvidia-smi -L",
        fix=fix,
        source=known[0].source if known else "",
    )
