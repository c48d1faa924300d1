"""The container toolkit: its version, and CDI specifications that no longer fit the driver."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.doctor import toolkit_cves
from provisioner.doctor.finding import Finding
from provisioner.doctor.situation import Situation, found
from provisioner.facts import DOCKER, GPU, TOOLKIT
from provisioner.facts.toolkit import CdiSpec

FIXED_PLACE = "/etc/cdi/"
"""Specifications there are read before the generated ones and are refreshed by nobody."""


def look(situation: Situation) -> Iterator[Finding]:
    toolkit, gpu = situation.facts[TOOLKIT], situation.facts[GPU]
    if toolkit.version is not None:
        vulnerable = toolkit_cves.finding(toolkit.version, toolkit.version, "nvidia-ctk --version")
        if vulnerable:
            yield vulnerable
    for spec in toolkit.cdi:
        if gpu.module_version and spec.drivers and gpu.module_version not in spec.drivers:
            yield _stale(situation, spec, gpu.module_version)
    if toolkit.version is None and gpu.gpus and situation.facts[DOCKER].server_version:
        yield found(
            "toolkit-missing",
            "problem",
            "toolkit",
            "the host has GPUs and Docker, but no container toolkit: no container can have a GPU",
            evidence="no nvidia-ctk",
            where="PATH",
            fix=situation.provision,
        )


def _stale(situation: Situation, spec: CdiSpec, driver: str) -> Finding:
    fixed = spec.path.startswith(FIXED_PLACE)
    remove = f"sudo rm {spec.path}, then " if fixed else ""
    return found(
        "cdi-stale",
        "problem",
        "toolkit",
        "a CDI specification names another driver's libraries: containers will not start, or lose "
        "their GPUs",
        evidence=f"{spec.path} names {', '.join(spec.drivers)}; loaded is {driver}",
        where=spec.path,
        fix=f"{remove}sudo systemctl restart nvidia-cdi-refresh.service (or {situation.provision})",
        source="NVIDIA/nvidia-container-toolkit#450, #856",
    )
