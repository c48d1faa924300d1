"""Is this a machine that rigup may provision at all? It refuses, with reason and remedy."""

from __future__ import annotations

from collections.abc import Callable

from inventory import Host
from provisioner.errors import BlockedError
from provisioner.facts import DOCKER, GPU, KERNEL, MACHINE, OS, TOOLKIT, Facts
from provisioner.platforms import platform_of
from provisioner.steps.base import Blocked, Outcome, Satisfied, listed


class Machine:
    """All refusals at once. What would have to be installed is refused where rigup cannot install
    it; a host that has it all is left alone."""

    name = "machine"

    def check(self, facts: Facts, host: Host) -> Outcome:
        found = [refusal for ask in REFUSALS if (refusal := ask(facts)) is not None]
        if found:
            return Blocked(
                listed([refusal.reason for refusal in found]),
                "; ".join(refusal.what_to_do for refusal in found),
            )
        return Satisfied(_described(facts))


def _wsl(facts: Facts) -> Blocked | None:
    if not facts[MACHINE].wsl:
        return None
    return Blocked(
        "this is Linux inside Windows (WSL), whose GPU driver is the one of Windows: a Linux "
        "driver would break it",
        "install NVIDIA's driver on Windows and use Docker Desktop there, or provision a machine "
        "that runs Linux itself",
    )


def _tegra(facts: Facts) -> Blocked | None:
    if not facts[MACHINE].tegra:
        return None
    return Blocked(
        "this is a Jetson or another Tegra system, whose driver is a part of NVIDIA's JetPack",
        "install JetPack, which brings driver, CUDA and container runtime, with NVIDIA's SDK "
        "Manager or from its apt repository",
    )


def _musl(facts: Facts) -> Blocked | None:
    if not facts[MACHINE].musl:
        return None
    return Blocked(
        "the C library is musl; NVIDIA's driver and container toolkit need glibc",
        "use a distribution with glibc on this machine",
    )


def _vgpu(facts: Facts) -> Blocked | None:
    """A heuristic: the mark on the PCI device, or the settings of the licensed driver."""
    if not facts[MACHINE].vgpu or facts[GPU].gpus:
        return None
    return Blocked(
        "the GPU looks like a virtual one (vGPU): its driver is licensed and must fit the one of "
        "the hypervisor, so none is installed from public repositories",
        "install the guest driver that the operator of the hypervisor or cloud gives out, check it "
        "with nvidia-smi -q (Virtualization Mode: VGPU), then provision again",
    )


def _container(facts: Facts) -> Blocked | None:
    kind, gpu = facts[KERNEL].container, facts[GPU]
    if kind is None or facts[OS].is_practice_host:
        return None
    missing = [
        *(["the GPU driver"] if gpu.pci and not gpu.gpus else []),
        *(["a Docker that answers"] if not facts[DOCKER].server_version else []),
    ]
    if not missing:
        return None
    return Blocked(
        f"the host is itself a container ({kind}) without {' and '.join(missing)}; the kernel and "
        "its drivers belong to the machine outside",
        "provision the machine outside, or give this container its GPUs and a working Docker there",
    )


def _systemd(facts: Facts) -> Blocked | None:
    if facts[OS].systemd or _has_it_all(facts):
        return None
    return Blocked(
        "the host was not booted with systemd, which starts Docker and the driver's services",
        "boot it with systemd, or use a distribution that does",
    )


def _release(facts: Facts) -> Blocked | None:
    try:
        platform_of(facts[OS])
    except BlockedError as error:
        if not _has_it_all(facts):
            return Blocked(error.message, error.remedy or "")
    return None


REFUSALS: tuple[Callable[[Facts], Blocked | None], ...] = (
    *(_wsl, _tegra, _musl, _vgpu, _container, _systemd, _release),
)


def _has_it_all(facts: Facts) -> bool:
    """Nothing would have to be installed: then nobody needs to know how."""
    gpu = facts[GPU]
    driven = bool(gpu.gpus and facts[TOOLKIT].version) if gpu.present else True
    return driven and facts[DOCKER].server_version is not None


def _described(facts: Facts) -> str:
    os = facts[OS]
    inside = f", in a container ({kind})" if (kind := facts[KERNEL].container) else ""
    return f"{os.pretty_name} on {os.architecture}{inside}"
