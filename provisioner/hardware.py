"""From a PCI device id to a GPU generation, and from generations to a driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from provisioner import data
from provisioner.facts.gpu import PciGpu


@dataclass(frozen=True)
class DriverChoice:
    """``flavour`` is open or proprietary; ``why`` names the evidence."""

    branch: str
    flavour: str
    why: str


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

    A GPU that is not in the table counts as newer than it (open). Raises ValueError when the
    wanted branch no longer drives one of the GPUs.
    """
    table = data.load("drivers")
    branch = wanted_branch or table["default_branch"]
    found = {gpu.device: generation(gpu.device) for gpu in gpus}
    last = table["branches"]["580"]["last_for"]
    old = sorted({name for name in found.values() if name and name in last})
    if old and int(branch) > 580:
        raise ValueError(f"branch {branch} no longer drives {', '.join(old)} GPUs; 580 is the last")
    flavour = "proprietary" if old else "open"
    seen = ", ".join(f"{device} {name or 'unknown, so newer'}" for device, name in found.items())
    return DriverChoice(branch, flavour, f"PCI {seen}")
