"""A driver whose packages are there and whose GPUs do not answer: what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.driver_plan import DriverPlan, driver_parts
from provisioner.facts import GPU, KERNEL, OS, PACKAGES, Facts
from provisioner.facts.gpu import GpuFacts
from provisioner.hardware import LOST_REMEDY, unanswering
from provisioner.platforms import platform_of
from provisioner.steps.base import Blocked, Change, Outcome

BUILD_TIMEOUT_S = 1800.0
LOST_SIGNS = ("gpu is lost", "gpu has fallen off the bus")
"""What NVML and nvidia-smi say of a GPU that no longer answers (NVML_ERROR_GPU_IS_LOST)."""


def silent(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    """The packages are there, the GPUs do not answer."""
    gpu, kernel = facts[GPU], facts[KERNEL]
    if gpu.module_version:
        return _loaded_but_silent(plan, facts, host)
    if gpu.module_on_disk is None and kernel.container:
        versions = facts[PACKAGES].versions
        installed = ", ".join(f"{name} {versions[name]}" for name in plan.packages)
        return Blocked(
            f"the driver is installed from {plan.source} ({installed}), but its kernel module can "
            f"be neither built nor loaded here: this host is a container ({kernel.container}), and "
            f"its kernel {kernel.running} belongs to the outer machine",
            "install the driver on the outer machine, or use a host with a kernel of its own",
        )
    if kernel.next != kernel.running:
        return only_a_reboot(
            f"the driver is installed; kernel {kernel.next} takes over from {kernel.running} at "
            "the next boot"
        )
    if gpu.module_on_disk is None:
        return _module_missing(plan, facts, host)
    reason = "the driver is installed, its module is not loaded"
    modprobe = Run(Command.of("modprobe", "nvidia", sudo=True), may_fail=True)
    if gpu.nouveau_loaded:
        unload = Run(Command.of("modprobe", "-r", "nouveau", sudo=True), may_fail=True)
        return Change(f"{reason}: nouveau holds the GPU", (unload, modprobe), needs_reboot=True)
    return Change(reason, (modprobe,), needs_reboot=True)


def driver_actions(
    plan: DriverPlan, facts: Facts, host: Host, instead_of: Sequence[str] = ()
) -> tuple[Action, ...]:
    """Install; what an earlier run held would not let go."""
    platform, packages = platform_of(facts[OS]), facts[PACKAGES]
    held = [name for name in driver_parts(packages.versions) if name in packages.held]
    return (
        *(platform.release(*held) if held else ()),
        *(platform.remove(*instead_of) if instead_of else ()),
        *platform.driver_actions(plan.choice, facts, replace(host, driver_source=plan.source)),
    )


def only_a_reboot(reason: str) -> Change:
    return Change(reason, (), needs_reboot=True)


def lost(gpu: GpuFacts) -> Blocked | None:
    """The driver has lost every GPU that it served: no package, and no reboot for sure, helps."""
    told = (gpu.smi_error or "").lower()
    if gpu.module_version is None or not any(sign in told for sign in LOST_SIGNS):
        return None
    addresses = ", ".join(one.address for one in unanswering(gpu)) or "unknown"
    return Blocked(
        f"the module {gpu.module_version} is loaded and no GPU on the bus answers ({addresses}): "
        f"{gpu.smi_error}",
        LOST_REMEDY,
        fault=True,
    )


def mismatch(gpu: GpuFacts) -> str:
    return (
        f"driver/library version mismatch: module {gpu.module_version} is loaded, "
        f"user space is {gpu.library_version or gpu.module_on_disk}"
    )


def failing(gpu: GpuFacts) -> str:
    return f"the module {gpu.module_version} is loaded but nvidia-smi fails: {gpu.smi_error}"


def differs(one: str | None, other: str) -> bool:
    return one is not None and one != other


def _loaded_but_silent(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    gpu = facts[GPU]
    assert gpu.module_version is not None
    if differs(gpu.library_version, gpu.module_version):
        again = driver_actions(plan, facts, host)
        reason = f"{mismatch(gpu)}: packages of two versions"
        return Change(reason, again, needs_reboot=True)
    return only_a_reboot(failing(gpu))


def _module_missing(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    running = facts[KERNEL].running
    reason = f"the driver is installed without a module for kernel {running}"
    if plan.signed:
        return Change(reason, driver_actions(plan, facts, host), needs_reboot=True)
    build = Command.of("dkms", "autoinstall", "-k", running, sudo=True, timeout_s=BUILD_TIMEOUT_S)
    return Change(reason, (Run(build, f"dkms autoinstall for {running}"),))
