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
from provisioner.facts import GPU

NO_PROGRAM = (126, 127)
NO_ANSWER = 124


def look(situation: Situation) -> Iterator[Finding]:
    asked = situation.facts[GPU_CONTAINERS]
    for container in asked.containers:
        if container.exit_code not in (0, *NO_PROGRAM):
            yield _lost(situation, container)
    if asked.left_out:
        yield found(
            "containers-not-asked",
            "unread",
            "containers",
            f"only {MOST_CONTAINERS} of the containers with GPUs were asked",
            evidence="docker ps",
            where="docker ps",
            fix="docker exec NAME nvidia-smi -L for the others",
        )


def _lost(situation: Situation, container: GpuContainer) -> Finding:
    """While the host's own nvidia-smi answers, the container has lost what it was given."""
    known = scan_lines([container.said], container.name)
    host_answers = bool(situation.facts[GPU].gpus)
    if container.exit_code == NO_ANSWER:
        cause = "nvidia-smi does not answer inside"
    elif host_answers:
        cause = "it has lost its GPUs, while the host still has them"
    else:
        cause = "nvidia-smi fails inside, as it does on the host"
    recreate = (
        f"docker restart {container.name}, or recreate it; {situation.provision} makes sure that "
        "`systemctl daemon-reload` takes no GPUs away"
    )
    return found(
        "container-gpus-lost",
        "problem",
        f"container {container.name}",
        cause,
        evidence=f"exit code {container.exit_code}: {container.said}",
        where=f"docker exec {container.name} nvidia-smi -L",
        fix=recreate if host_answers else "repair the host's driver first",
        source=known[0].source if known else "",
    )
