"""NVIDIA's Fabric Manager on hosts with NVSwitches: of exactly the driver's version, running."""

from __future__ import annotations

from pathlib import PurePosixPath

from inventory import Host
from provisioner import data
from provisioner.actions import Action, Run, WriteFile
from provisioner.command import Command
from provisioner.driver_plan import installed_source, source_of
from provisioner.errors import BlockedError
from provisioner.facts import GPU, NVIDIA_SERVICES, OS, PACKAGES, SOURCES, Facts
from provisioner.facts.nvidia_services import FABRIC_MANAGER
from provisioner.platforms import platform_of
from provisioner.steps.base import Change, Outcome, Satisfied, listed
from provisioner.steps.lookahead import installs
from provisioner.steps.persistence import outer_machine
from provisioner.traces import Trace

SUBNET_MANAGER = "nvlsm"
"""What NVLink 5 switches need beside it (NVIDIA/gpu-driver-container, 2026-08-17)."""
RESTART = Command.of("systemctl", "restart", FABRIC_MANAGER, sudo=True, timeout_s=180)
UMAD = PurePosixPath("/etc/modules-load.d/rigup-ib-umad.conf")


class FabricManager:
    name = "fabric_manager"

    def check(self, facts: Facts, host: Host) -> Outcome:
        gpu, services = facts[GPU], facts[NVIDIA_SERVICES]
        if not gpu.nvswitches and not services.nvlink5:
            return Satisfied("no NVSwitch")
        if not gpu.present:
            return Satisfied("the GPUs behind the NVSwitches are all passed through to guests")
        if kind := outer_machine(facts):
            return Satisfied(f"this host is a container ({kind}): it runs on the outer machine")
        package = _package(facts, host)
        parts = [*_installation(package, facts), *_service(facts)]
        if not parts:
            installed = facts[PACKAGES].versions[package]
            return Satisfied(f"{package} {installed} runs, as the driver wants")
        if any(installs(needed) for _, needed in parts):
            parts = [*_repository(facts, host), *parts]
        actions = tuple(action for _, needed in parts for action in needed)
        return Change(listed([reason for reason, _ in parts]), actions)


Part = tuple[str, tuple[Action, ...]]


def _package(facts: Facts, host: Host) -> str:
    names = data.load("drivers")["fabric_manager"]
    os, version = facts[OS], facts[GPU].driver_version or ""
    branch = version.partition(".")[0] or host.driver_branch or _default_branch()
    if _source(facts, host) == "vendor":
        older = [name for first, name in names["vendor_before"].items() if int(branch) < int(first)]
        return str((older or [names["vendor"]])[0]).format(branch=branch)
    if os.id not in names:
        raise BlockedError(
            f"{os.pretty_name}'s own archive has no Fabric Manager, which NVSwitches need",
            remedy="set driver_source: vendor in the inventory (and remove the other driver)",
        )
    return str(names[os.id]).format(branch=branch)


def _default_branch() -> str:
    branch: str = data.load("drivers")["default_branch"]
    return branch


def _repository(facts: Facts, host: Host) -> list[Part]:
    """NVIDIA's, where a driver of its packages works without it (an image, a local repository)."""
    there = any("cuda" in PurePosixPath(path).name for path in facts[SOURCES].leftovers)
    if there or not facts[GPU].gpus or _source(facts, host) != "vendor":
        return []
    platform = platform_of(facts[OS])
    source = platform.vendor_source("nvidia", facts[OS], host)
    missing = platform.source_actions(source, facts)
    return [("NVIDIA's repository is not configured", missing)] if missing else []


def _source(facts: Facts, host: Host) -> str:
    return installed_source(facts[PACKAGES].versions) or source_of(facts, host)


def _installation(package: str, facts: Facts) -> list[Part]:
    """The package at the driver's version, held there; NVLink 5 also needs a subnet manager."""
    platform = platform_of(facts[OS])
    versions, wanted = facts[PACKAGES].versions, facts[GPU].driver_version
    found = upstream(versions.get(package, ""))
    hold = platform.hold(package)
    parts: list[Part] = []
    if wanted is None:
        parts.append(("the Fabric Manager comes after the driver", platform.install(package)))
    elif found != wanted:
        told = f"is {found}" if found else "is not installed"
        exact = platform.install_versions({package: wanted})
        anew = (Run(RESTART),) if facts[NVIDIA_SERVICES].fabric_manager.active else ()
        parts.append((f"{package} {told}, the driver is {wanted}", (*exact, *hold, *anew)))
    elif package not in facts[PACKAGES].held:
        parts.append((f"{package} could be upgraded without the driver", hold))
    if facts[NVIDIA_SERVICES].nvlink5 and SUBNET_MANAGER not in versions:
        file = WriteFile(UMAD, "ib_umad\n")
        load = Run(Command.of("modprobe", "ib_umad", sudo=True))
        needed = (*platform.install(SUBNET_MANAGER), file, load)
        parts.append((f"NVLink 5 switches need {SUBNET_MANAGER}", needed))
    return parts


def _service(facts: Facts) -> list[Part]:
    unit = facts[NVIDIA_SERVICES].fabric_manager
    if unit.wanted and unit.active:
        return []
    start = Command.of("systemctl", "enable", "--now", FABRIC_MANAGER, sudo=True, timeout_s=180)
    return [
        ("it is not started", (Run(start, traces=(Trace("unit", FABRIC_MANAGER),)),)),
    ]


def upstream(version: str) -> str:
    """Without the package's epoch and revision: 580.173.02 of 1:580.173.02-1ubuntu1."""
    return version.rpartition(":")[2].partition("-")[0]
