"""The driver: does it answer, and is all of it one version?"""

from __future__ import annotations

from collections.abc import Iterator

from provisioner import data
from provisioner.doctor.finding import Finding
from provisioner.doctor.situation import Situation, found
from provisioner.facts import GPU, MACHINE, PROOF
from provisioner.facts.gpu import GpuFacts
from provisioner.hardware import LOST_REMEDY, VANISHED_REMEDY, unanswering, vanished


def look(situation: Situation) -> Iterator[Finding]:
    gpu = situation.facts[GPU]
    if gpu.present and not situation.facts[MACHINE].wsl:
        yield from _missing(situation, gpu)
    yield from _versions(situation, gpu)
    yield from _lost(gpu)
    yield from _vanished(situation, gpu)
    yield from _branch(situation, gpu)


def _missing(situation: Situation, gpu: GpuFacts) -> Iterator[Finding]:
    if gpu.nouveau_loaded and not gpu.gpus:
        yield found(
            "nouveau-loaded",
            "problem",
            "driver",
            "the nouveau driver is loaded: NVIDIA's cannot take the GPUs",
            evidence="the kernel has the module nouveau",
            where="/sys/module",
            fix=f"{situation.provision}, then reboot",
        )
    if not gpu.smi_installed and gpu.module_version is None:
        yield found(
            "driver-missing",
            "problem",
            "driver",
            "the host has an NVIDIA GPU and no driver",
            evidence=", ".join(f"{one.address} {one.device}" for one in gpu.pci),
            where="PCI bus",
            fix=situation.provision,
        )


def _versions(situation: Situation, gpu: GpuFacts) -> Iterator[Finding]:
    loaded = gpu.module_version
    others = {"on disk": gpu.module_on_disk, "user space": gpu.library_version}
    differing = [
        f"{name} {version}" for name, version in others.items() if version not in (None, loaded)
    ]
    if loaded and differing:
        yield found(
            "driver-versions-differ",
            "problem",
            "driver",
            "the driver was upgraded under the loaded kernel module",
            evidence=f"loaded {loaded}, {', '.join(differing)}",
            where="/sys/module/nvidia, modinfo, ldconfig",
            fix=f"reboot {situation.host.name}, then recreate its containers",
            source="NVIDIA/nvidia-container-toolkit#394",
        )


def _lost(gpu: GpuFacts) -> Iterator[Finding]:
    missing = unanswering(gpu)
    if gpu.gpus and missing:
        yield found(
            "gpu-not-listed",
            "problem",
            "gpu",
            f"{len(gpu.own)} GPUs are on the PCI bus, nvidia-smi lists {len(gpu.gpus)}",
            evidence=", ".join(one.address for one in missing),
            where="PCI bus",
            fix=LOST_REMEDY,
        )


def _vanished(situation: Situation, gpu: GpuFacts) -> Iterator[Finding]:
    record = situation.facts[PROOF].record
    missing = vanished(gpu, record.gpus if record else ())
    if missing:
        yield found(
            "gpu-vanished",
            "problem",
            "gpu",
            "GPUs that were there at the last verification are no longer on the bus",
            evidence=", ".join(missing),
            where="PCI bus, /var/lib/rigup/proof.json",
            fix=f"{VANISHED_REMEDY}; if they were taken out on purpose, {situation.provision} "
            "--verify",
        )


def _branch(situation: Situation, gpu: GpuFacts) -> Iterator[Finding]:
    branch = (gpu.driver_version or "").partition(".")[0]
    row = data.load("drivers")["branches"].get(branch)
    if row and str(row["end_of_life"]) < situation.today[:7]:
        yield found(
            "driver-branch-ended",
            "warning",
            "driver",
            f"driver branch {branch} got its last security fixes in {row['end_of_life']}",
            evidence=f"driver {gpu.driver_version}",
            where="nvidia-smi",
            fix="choose another driver_branch in the inventory, then " + situation.provision,
            source="NVIDIA data-centre driver documentation 615, table 2",
        )
