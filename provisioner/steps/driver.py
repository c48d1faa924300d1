"""The NVIDIA driver: chosen from the GPUs on the bus, installed, loaded, held at its version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.driver_plan import (
    DriverPlan,
    driver_parts,
    installed_source,
    plan_driver,
    signed_modules_offered,
    unsigned_refused,
)
from provisioner.facts import GPU, KERNEL, OS, PACKAGES, Facts
from provisioner.facts.gpu import GpuFacts
from provisioner.hardware import generations_needing_open
from provisioner.platforms import platform_of
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied

BUILD_TIMEOUT_S = 1800.0
LOOK = "look at the host's kernel log (dmesg); invoke doctor names known failures"
SECURE_BOOT = (
    "sign what DKMS builds: install dkms and mokutil, `sudo dkms generate_mok`, `sudo mokutil "
    "--import /var/lib/dkms/mok.pub`, reboot, confirm at the host's console, provision again; "
    "or turn Secure Boot off in the firmware"
)


class Driver:
    """A driver that already works is kept, whatever its source."""

    name = "driver"

    def check(self, facts: Facts, host: Host) -> Outcome:
        gpu = facts[GPU]
        if not gpu.present:
            return Satisfied(_nothing_to_drive(gpu))
        if gpu.gpus and not _flavour_too_old(gpu):
            return _working(facts)
        if gpu.runfile or _is_foreign(facts):
            return _foreign(gpu)
        plan = plan_driver(facts, host)
        refusal = _refusal(plan, facts)
        if refusal is not None:
            return refusal
        wrong = _wrong_flavour(plan, facts)
        if wrong:
            return _switch(plan, wrong, facts, host)
        if not _has_all(plan.packages, facts):
            return _installation(plan, facts, host)
        return _with_hold(_silent(plan, facts, host), plan.signed, facts)


def _nothing_to_drive(gpu: GpuFacts) -> str:
    if gpu.pci:
        return f"all {len(gpu.pci)} NVIDIA GPU(s) are passed through to guests, nothing to drive"
    return "no NVIDIA GPU on the bus, nothing to drive"


def _working(facts: Facts) -> Outcome:
    gpu = facts[GPU]
    if gpu.module_version and gpu.driver_version and gpu.module_version != gpu.driver_version:
        return _only_a_reboot(
            f"driver/library version mismatch: module {gpu.module_version}, "
            f"user space {gpu.driver_version}"
        )
    names = ", ".join(sorted({found.name for found in gpu.gpus}))
    seen = f"driver {gpu.driver_version} drives {len(gpu.gpus)} GPU(s): {names}{_missing(gpu)}"
    hold = _hold_actions(_is_signed(facts), facts)
    if hold:
        return Change(f"{seen}; unattended upgrades could replace it under a job", hold)
    return Satisfied(seen)


def _missing(gpu: GpuFacts) -> str:
    """GPUs that the module holds and nvidia-smi does not list: seen, and left to a person."""
    missing = sum(found.driver == "nvidia" for found in gpu.pci) - len(gpu.gpus)
    return f"; {missing} more on the bus not answering, see dmesg" if missing > 0 else ""


def _flavour_too_old(gpu: GpuFacts) -> bool:
    """Some GPUs work, but the proprietary modules leave the newest ones alone."""
    silent = len(gpu.own) > len(gpu.gpus)
    newest = generations_needing_open(found.device for found in gpu.own)
    return silent and gpu.module_flavour == "proprietary" and bool(newest)


def _is_foreign(facts: Facts) -> bool:
    """A loaded driver that no package brought."""
    gpu = facts[GPU]
    packaged = driver_parts(facts[PACKAGES].versions)
    return gpu.module_version is not None and gpu.smi_installed and not packaged


def _foreign(gpu: GpuFacts) -> Outcome:
    """Never mixed with packages; a reboot helps where it was only upgraded."""
    if gpu.module_version and _differs(gpu.library_version, gpu.module_version):
        return _only_a_reboot(_mismatch(gpu))
    if gpu.runfile:
        return Blocked(
            f"the driver of NVIDIA's installer does not work: {gpu.smi_error}",
            "run its installer again, or remove it (sudo nvidia-uninstall) and provision again",
        )
    return Blocked(f"a driver that no package brought: nvidia-smi fails: {gpu.smi_error}", LOOK)


def _refusal(plan: DriverPlan, facts: Facts) -> Blocked | None:
    """What a person must decide before anything is installed or built."""
    installed = installed_source(facts[PACKAGES].versions)
    if installed not in (None, plan.source):
        parts = ", ".join(driver_parts(facts[PACKAGES].versions)[:4])
        return Blocked(
            f"driver packages from another source than {plan.source} are installed ({parts}, …); "
            "the two are never mixed",
            f"set driver_source: {installed} in the inventory, or remove them first",
        )
    if not plan.signed and unsigned_refused(facts):
        return Blocked(
            "Secure Boot is on: the kernel refuses modules that are built on the host",
            f"set driver_source: distro, whose modules are signed; or {SECURE_BOOT}"
            if signed_modules_offered(facts)
            else SECURE_BOOT,
        )
    return None


def _wrong_flavour(plan: DriverPlan, facts: Facts) -> tuple[str, ...]:
    """The packages that bring the other flavour, where they are installed instead."""
    other = "open" if plan.choice.flavour == "proprietary" else "proprietary"
    platform = platform_of(facts[OS])
    names = platform.driver_packages(replace(plan.choice, flavour=other), plan.source)
    only = tuple(name for name in names if name not in plan.packages)
    return only if only and _has_all(only, facts) else ()


def _switch(plan: DriverPlan, wrong: Sequence[str], facts: Facts, host: Host) -> Outcome:
    return Change(
        f"these GPUs need {plan.choice.flavour} modules ({plan.choice.why}), and "
        f"{', '.join(wrong)} is installed",
        _driver_actions(plan, facts, host, instead_of=wrong),
        needs_reboot=True,
    )


def _installation(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    choice = plan.choice
    limits = f"; {choice.limits}" if choice.limits else ""
    return Change(
        f"no NVIDIA driver; chosen: {choice.branch}, {choice.flavour} modules ({choice.why}), "
        f"source {plan.source}{limits}",
        _driver_actions(plan, facts, host),
        needs_reboot=True,
    )


def _driver_actions(
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


def _silent(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
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
        return _only_a_reboot(
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


def _loaded_but_silent(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    gpu = facts[GPU]
    assert gpu.module_version is not None
    if _differs(gpu.module_on_disk, gpu.module_version):
        return _only_a_reboot(_mismatch(gpu))
    if _differs(gpu.library_version, gpu.module_version):
        again = _driver_actions(plan, facts, host)
        reason = f"{_mismatch(gpu)}: packages of two versions"
        return Change(reason, again, needs_reboot=True)
    return _only_a_reboot(
        f"the module {gpu.module_version} is loaded but nvidia-smi fails: {gpu.smi_error}"
    )


def _module_missing(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    running = facts[KERNEL].running
    reason = f"the driver is installed without a module for kernel {running}"
    if plan.signed:
        return Change(reason, _driver_actions(plan, facts, host), needs_reboot=True)
    build = Command.of("dkms", "autoinstall", "-k", running, sudo=True, timeout_s=BUILD_TIMEOUT_S)
    return Change(reason, (Run(build, f"dkms autoinstall for {running}"),))


def _only_a_reboot(reason: str) -> Change:
    return Change(reason, (), needs_reboot=True)


def _mismatch(gpu: GpuFacts) -> str:
    return (
        f"driver/library version mismatch: module {gpu.module_version} is loaded, "
        f"user space is {gpu.library_version or gpu.module_on_disk}"
    )


def _differs(one: str | None, other: str) -> bool:
    return one is not None and one != other


def _has_all(names: Sequence[str], facts: Facts) -> bool:
    return all(name in facts[PACKAGES].versions for name in names)


def _is_signed(facts: Facts) -> bool:
    return any(name.startswith("linux-modules-nvidia-") for name in facts[PACKAGES].versions)


def _with_hold(outcome: Outcome, signed: bool, facts: Facts) -> Outcome:
    if not isinstance(outcome, Change):
        return outcome
    return replace(outcome, actions=(*_hold_actions(signed, facts), *outcome.actions))


def _hold_actions(signed: bool, facts: Facts) -> tuple[Action, ...]:
    """Prebuilt modules belong to one kernel: it is held too, or a boot could come without them."""
    packages = facts[PACKAGES]
    missing = [name for name in driver_parts(packages.versions) if name not in packages.held]
    if signed:
        kernel = facts[KERNEL]
        missing += [name for name in kernel.metapackages if name not in kernel.held]
    return platform_of(facts[OS]).hold(*missing) if missing else ()
