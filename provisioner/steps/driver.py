"""The NVIDIA driver: chosen from the GPUs on the bus, installed, loaded, held at its version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from inventory import Host
from provisioner.actions import Action
from provisioner.driver_plan import (
    DriverPlan,
    driver_parts,
    installed_source,
    plan_driver,
    signed_modules_offered,
    unsigned_refused,
)
from provisioner.errors import BlockedError
from provisioner.facts import GPU, KERNEL, OS, PACKAGES, Facts
from provisioner.facts.gpu import GpuFacts
from provisioner.hardware import choose_driver, generations_needing_open, unanswering
from provisioner.platforms import is_supported, platform_of
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied
from provisioner.steps.driver_silent import (
    differs,
    driver_actions,
    failing,
    lost,
    mismatch,
    only_a_reboot,
    silent,
)

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
        if gpu.module_version and differs(gpu.module_on_disk, gpu.module_version):
            return only_a_reboot(mismatch(gpu))
        if (gone := lost(gpu)) is not None:
            return gone
        plan = plan_driver(facts, host)
        refusal = _refusal(plan, facts)
        if refusal is not None:
            return refusal
        wrong = _wrong_flavour(plan, facts)
        if wrong:
            return _switch(plan, wrong, facts, host)
        if not _has_all(plan.packages, facts):
            if _should_serve(gpu):
                return only_a_reboot(failing(gpu))
            return _installation(plan, facts, host)
        return _with_hold(silent(plan, facts, host), plan.signed, facts)


def _nothing_to_drive(gpu: GpuFacts) -> str:
    if gpu.pci:
        return f"all {len(gpu.pci)} NVIDIA GPU(s) are passed through to guests, nothing to drive"
    return "no NVIDIA GPU on the bus, nothing to drive"


def _working(facts: Facts) -> Outcome:
    gpu = facts[GPU]
    if gpu.module_version and gpu.driver_version and gpu.module_version != gpu.driver_version:
        return only_a_reboot(
            f"driver/library version mismatch: module {gpu.module_version}, "
            f"user space {gpu.driver_version}"
        )
    names = ", ".join(sorted({found.name for found in gpu.gpus}))
    seen = f"driver {gpu.driver_version} drives {len(gpu.gpus)} GPU(s): {names}{_missing(gpu)}"
    hold = _hold_actions(_is_signed(facts), facts) if is_supported(facts[OS]) else ()
    if hold:
        return Change(f"{seen}; unattended upgrades could replace it under a job", hold)
    return Satisfied(seen)


def _missing(gpu: GpuFacts) -> str:
    """The GPUs that others of the host work without; verification then fails for them."""
    addresses = ", ".join(one.address for one in unanswering(gpu))
    return f"; on the bus and not listed: {addresses}" if addresses else ""


def _flavour_too_old(gpu: GpuFacts) -> bool:
    """Some GPUs work, but the proprietary modules leave the newest ones alone."""
    some_silent = len(gpu.own) > len(gpu.gpus)
    newest = generations_needing_open(found.device for found in gpu.own)
    return some_silent and gpu.module_flavour == "proprietary" and bool(newest)


def _is_foreign(facts: Facts) -> bool:
    """A loaded driver that no package brought."""
    gpu = facts[GPU]
    packaged = driver_parts(facts[PACKAGES].versions)
    return gpu.module_version is not None and gpu.smi_installed and not packaged


def _should_serve(gpu: GpuFacts) -> bool:
    """Is a module loaded that knows all GPUs of this host? Another driver would not help then."""
    branch = (gpu.module_version or "").partition(".")[0]
    if not branch.isdecimal() or gpu.library_version != gpu.module_version:
        return False
    try:
        fitting = choose_driver(gpu.own, branch)
    except BlockedError:
        return False
    if gpu.module_flavour == "open":
        return fitting.flavour == "open"
    return not generations_needing_open(found.device for found in gpu.own)


def _foreign(gpu: GpuFacts) -> Outcome:
    """Never mixed with packages; a reboot helps where it was only upgraded."""
    if gpu.module_version and differs(gpu.library_version, gpu.module_version):
        return only_a_reboot(mismatch(gpu))
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
        parts = _some(driver_parts(facts[PACKAGES].versions))
        return Blocked(
            f"driver packages from another source than {plan.source} are installed ({parts}); "
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
    """Never under a program that computes on those GPUs that do work."""
    if users := facts[GPU].processes:
        told = _some([f"{user.pid} {user.name} of {user.user}" for user in users])
        return Blocked(
            f"some of these GPUs need {plan.choice.flavour} modules ({plan.choice.why}), and "
            f"others are in use: {told}",
            "provision again when these programs have ended",
        )
    return Change(
        f"these GPUs need {plan.choice.flavour} modules ({plan.choice.why}), and "
        f"{', '.join(wrong)} is installed",
        driver_actions(plan, facts, host, instead_of=wrong),
        needs_reboot=True,
    )


def _installation(plan: DriverPlan, facts: Facts, host: Host) -> Outcome:
    choice = plan.choice
    limits = f"; {choice.limits}" if choice.limits else ""
    return Change(
        f"{_what_there_is(facts)}; chosen: {choice.branch}, {choice.flavour} modules "
        f"({choice.why}), source {plan.source}{limits}",
        driver_actions(plan, facts, host),
        needs_reboot=True,
    )


def _what_there_is(facts: Facts) -> str:
    parts = driver_parts(facts[PACKAGES].versions)
    return f"no GPU answers the installed driver ({_some(parts)})" if parts else "no NVIDIA driver"


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["…"] if names[4:] else [])])


def _has_all(names: Sequence[str], facts: Facts) -> bool:
    return all(name in facts[PACKAGES].versions for name in names)


def _is_signed(facts: Facts) -> bool:
    """Ubuntu's prebuilt modules have the branch in their name, those of nvidia-fs have none."""
    return any(re.match(r"linux-modules-nvidia-\d", name) for name in facts[PACKAGES].versions)


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
