"""The NVIDIA driver: chosen from the GPUs on the bus, installed, and its module loaded."""

from __future__ import annotations

from inventory import Host
from provisioner.actions import Run
from provisioner.command import Command
from provisioner.facts import GPU, OS, PACKAGES, Facts
from provisioner.facts.gpu import GpuFacts
from provisioner.hardware import DriverChoice, choose_driver
from provisioner.platforms import platform_of
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied

REBOOT = "reboot the host when nobody needs it, then provision again"


class Driver:
    """A driver that already works is kept, whatever its source."""

    name = "driver"

    def check(self, facts: Facts, host: Host) -> Outcome:
        gpu = facts[GPU]
        if not gpu.pci and not gpu.gpus:
            return Satisfied("no NVIDIA GPU on the bus, nothing to drive")
        if gpu.gpus:
            return _working(gpu)
        choice = choose_driver(gpu.pci, host.driver_branch)
        if not _is_installed(facts, host, choice) and not _has_foreign_driver(gpu):
            return _installation(facts, host, choice)
        return _not_loaded(gpu)


def _working(gpu: GpuFacts) -> Outcome:
    if gpu.module_version and gpu.driver_version and gpu.module_version != gpu.driver_version:
        return Blocked(
            f"driver/library version mismatch: module {gpu.module_version}, "
            f"user space {gpu.driver_version}",
            REBOOT,
        )
    names = ", ".join(sorted({found.name for found in gpu.gpus}))
    return Satisfied(
        f"driver {gpu.driver_version} drives {len(gpu.gpus)} GPU(s): {names}{_missing(gpu)}"
    )


def _missing(gpu: GpuFacts) -> str:
    """GPUs that the module holds and nvidia-smi does not list: seen, and left to a person."""
    missing = sum(found.driver == "nvidia" for found in gpu.pci) - len(gpu.gpus)
    return f"; {missing} more on the bus not answering, see dmesg" if missing > 0 else ""


def _is_installed(facts: Facts, host: Host, choice: DriverChoice) -> bool:
    versions = facts[PACKAGES].versions
    wanted = platform_of(facts[OS]).driver_packages(choice, host.driver_source)
    return all(name in versions for name in wanted) or "nvidia-driver" in versions


def _has_foreign_driver(gpu: GpuFacts) -> bool:
    """One that came another way (runfile, the distribution's archive): never mixed with ours."""
    return gpu.module_version is not None and gpu.smi_installed


def _installation(facts: Facts, host: Host, choice: DriverChoice) -> Outcome:
    return Change(
        f"no NVIDIA driver; chosen: {choice.branch}, {choice.flavour} modules ({choice.why})",
        platform_of(facts[OS]).driver_actions(choice, facts, host),
        needs_reboot=True,
    )


def _not_loaded(gpu: GpuFacts) -> Outcome:
    if gpu.module_version:
        return Blocked(
            f"the module {gpu.module_version} is loaded but nvidia-smi fails: {gpu.smi_error}",
            REBOOT,
        )
    if gpu.nouveau_loaded:
        return Blocked("nouveau holds the GPU, so the NVIDIA module cannot load", REBOOT)
    return Change(
        "the driver is installed, its module is not loaded",
        (Run(Command.of("modprobe", "nvidia", sudo=True), may_fail=True),),
        needs_reboot=True,
    )
