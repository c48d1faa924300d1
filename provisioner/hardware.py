"""From a PCI device id to a GPU generation, and from generations to a driver."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from provisioner import data
from provisioner.errors import BlockedError
from provisioner.facts.gpu import GpuFacts, PciGpu

LOST_REMEDY = (
    "look for its Xid (sudo dmesg | grep -i xid; invoke doctor names it); reset the GPU or reboot "
    "when nobody uses the others; if it stays away, power the machine off and on, then reseat the "
    "card and its power cables"
)
"""Xid 79, the usual reason, asks for a restart of the machine (NVIDIA, Xid catalogue)."""

VANISHED_REMEDY = (
    "power the machine off and on, then reseat the card and its power cables; lspci -d 10de: shows "
    "it as soon as it is back"
)


@dataclass(frozen=True)
class DriverChoice:
    """``flavour`` is open or proprietary; ``why`` names the evidence."""

    branch: str
    flavour: str
    why: str

    @property
    def limits(self) -> str:
        """What this branch cannot do; empty for a current one."""
        first = data.load("drivers")["first_branch_of_cuda_13"]
        return f"too old for CUDA 13, which needs {first}" if int(self.branch) < int(first) else ""


def generation(device: str) -> str | None:
    """The architecture of a PCI device id such as ``0x2330``; None for one not in the table."""
    number = int(device, 16)
    for row in data.load("drivers")["generations"]:
        if int(row["from"], 16) <= number <= int(row["to"], 16):
            name: str = row["name"]
            return name
    return None


def choose_driver(gpus: Iterable[PciGpu], wanted_branch: str | None) -> DriverChoice:
    """One driver serves all GPUs of a host: a single old one makes it proprietary.

    A GPU between or above the table's ranges counts as newer than it (open). Raises BlockedError
    when no driver, or not the wanted branch, drives all of them, or there is no such branch.
    """
    table = data.load("drivers")
    branch = wanted_branch or table["default_branch"]
    devices = [gpu.device for gpu in gpus]
    ancient = _ancient(devices)
    found = {device: generation(device) for device in devices if device not in ancient}
    names = {name for name in found.values() if name}
    old = sorted(names & set(table["branches"]["580"]["last_for"]))
    new = sorted(names & set(table["open_required"]))
    if old and new:
        raise BlockedError(
            f"no driver drives {', '.join(old)} (proprietary modules only) and {', '.join(new)} "
            "(open modules only) GPUs together",
            remedy="take one of them out of the host",
        )
    _refuse_branch(branch, old, new)
    _refuse_unknown(branch)
    early = int(branch) < int(table["open_from"]) and not new
    flavour = "proprietary" if old or early else "open"
    seen = [f"{device} {name or 'unknown, so newer'}" for device, name in found.items()]
    seen += [f"{device} older than Maxwell, left out" for device in ancient]
    return DriverChoice(branch, flavour, f"PCI {', '.join(seen)}")


def unanswering(gpu: GpuFacts) -> tuple[PciGpu, ...]:
    """GPUs on the bus that the loaded driver should serve and does not list.

    Not those that another driver holds, that are left out on purpose, or that are older than every
    supported driver. Where the driver tells no addresses, all are named that may be missing.
    """
    if gpu.module_version is None:
        return ()
    ancient = _too_old(one.device for one in gpu.own)
    expected = [
        one for one in gpu.own if one.driver in (None, "nvidia") and one.device not in ancient
    ]
    listed = {one.address for one in gpu.gpus}
    if None in listed:
        return tuple(expected) if len(expected) > len(gpu.gpus) else ()
    return tuple(one for one in expected if one.address not in listed)


def vanished(gpu: GpuFacts, known: Collection[str]) -> tuple[str, ...]:
    """UUIDs among ``known``, those of an earlier verification, that are gone from a host that now
    has fewer GPUs on the bus: a dead card may be on none after a reboot."""
    if max(len(gpu.pci), len(gpu.gpus)) >= len(known):
        return ()
    listed = {one.uuid for one in gpu.gpus}
    return tuple(uuid for uuid in known if uuid not in listed)


def _ancient(devices: Sequence[str]) -> tuple[str, ...]:
    """Those that no supported driver drives; it leaves them alone ("will ignore this GPU", says the
    kernel log) and drives the others. Raises BlockedError where there are no others."""
    ancient = _too_old(devices)
    if ancient and not set(devices) - set(ancient):
        raise BlockedError(
            f"GPU {', '.join(ancient)} is older than Maxwell, which no supported driver drives",
            remedy="take it out of the host",
        )
    return ancient


def _too_old(devices: Iterable[str]) -> tuple[str, ...]:
    oldest = min(int(row["from"], 16) for row in data.load("drivers")["generations"])
    return tuple(dict.fromkeys(device for device in devices if int(device, 16) < oldest))


def _refuse_unknown(branch: str) -> None:
    table = data.load("drivers")
    released = [name for row in table["released"] for name in row]
    newest = max(map(int, released))
    if branch in released or newest < int(branch) <= newest + table["released_margin"]:
        return
    raise BlockedError(
        f"NVIDIA has released no driver branch {branch}",
        remedy=f"set driver_branch in the inventory to one of {', '.join(released[-6:])}, or an "
        "older one",
    )


def _refuse_branch(branch: str, old: Sequence[str], new: Sequence[str]) -> None:
    if old and int(branch) > 580:
        raise BlockedError(
            f"branch {branch} no longer drives {', '.join(old)} GPUs; 580 is the last",
            remedy="set driver_branch: '580' in the inventory",
        )
    table = data.load("drivers")
    early = [name for name in new if int(branch) < int(table["first_branch"][name])]
    if early:
        raise BlockedError(
            f"branch {branch} does not drive {', '.join(early)} GPUs yet",
            remedy=f"set driver_branch: '{table['default_branch']}' in the inventory",
        )


def generations_needing_open(devices: Iterable[str]) -> tuple[str, ...]:
    """The generations among PCI device ids that only the open modules drive."""
    required = data.load("drivers")["open_required"]
    found = map(generation, devices)
    return tuple(sorted({name for name in found if name is not None and name in required}))
