"""NVIDIA's services: the persistence daemon, the Fabric Manager, and rigup's own unit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

PERSISTENCED = "nvidia-persistenced.service"
FABRIC_MANAGER = "nvidia-fabricmanager.service"
OWN_PERSISTENCE = "rigup-nvidia-persistence.service"
UNITS = (PERSISTENCED, FABRIC_MANAGER, OWN_PERSISTENCE)


@dataclass(frozen=True)
class Unit:
    """``wanted``: a boot starts it. ``arguments``: those of the program that it starts."""

    loaded: bool = False
    wanted: bool = False
    active: bool = False
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class NvidiaServiceFacts:
    """``nvlink5``: the switches hang on InfiniBand devices of their own (HGX B200 and later)."""

    persistenced: Unit
    fabric_manager: Unit
    own_persistence: Unit
    nvlink5: bool = False


SCRIPT = rf"""
[ -d /run/systemd/system ] || exit 0
limited systemctl show -p Id -p LoadState -p UnitFileState -p ActiveState -p ExecStart \
  {" ".join(UNITS)} || exit 4
for unit in {" ".join(UNITS)}; do
  for link in /etc/systemd/system/*.wants/"$unit"; do [ -L "$link" ] && echo "Wanted=$unit"; done
done
for device in /sys/class/infiniband/*/device/vpd; do
  [ -e "$device" ] && as_root grep -qa SW_MNG "$device" 2>/dev/null && echo NvLink5=1 && break
done
exit 0
"""

ENABLED = ("enabled", "enabled-runtime", "alias")


def parse(output: Output) -> NvidiaServiceFacts:
    if output.exit_code != 0:
        raise ValueError("systemd does not answer")
    blocks = [dict(_pairs(block)) for block in re.split(r"\n\s*\n", output.text)]
    units = {block["Id"]: block for block in blocks if "Id" in block}
    linked = set(re.findall(r"^Wanted=(\S+)$", output.text, re.MULTILINE))
    persistenced, fabric_manager, own = (_unit(units.get(name, {}), linked) for name in UNITS)
    nvlink5 = re.search(r"^NvLink5=1$", output.text, re.MULTILINE) is not None
    return NvidiaServiceFacts(persistenced, fabric_manager, own, nvlink5)


def _pairs(block: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (line.partition("=") for line in block.splitlines())]


def _unit(block: dict[str, str], linked: set[str]) -> Unit:
    started = re.search(r"argv\[\]=(.*?) ;", block.get("ExecStart", ""))
    return Unit(
        loaded=block.get("LoadState") == "loaded",
        wanted=block.get("UnitFileState") in ENABLED or block.get("Id") in linked,
        active=block.get("ActiveState") == "active",
        arguments=tuple(started[1].split()[1:]) if started else (),
    )


NVIDIA_SERVICES = Fact("nvidia_services", SCRIPT, parse)
