"""The GPUs on the PCI bus, and the driver: which module is loaded, what nvidia-smi says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values

NVIDIA_VENDOR = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")
NOT_AVAILABLE = {"", "N/A", "[N/A]", "[Not Supported]", "[Unknown Error]"}


@dataclass(frozen=True)
class PciGpu:
    """A GPU on the bus. ``device`` is the PCI device id, such as ``0x2330``."""

    address: str
    device: str
    driver: str | None


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver knows it; None where the driver answers N/A. Memory in MiB."""

    index: int
    uuid: str
    name: str
    memory_mib: int | None
    compute_capability: str | None

    @property
    def simulated(self) -> bool:
        return "SIMULATED" in self.name


@dataclass(frozen=True)
class GpuFacts:
    """``module_version``: the loaded nvidia kernel module's; ``smi_error``: why nvidia-smi, if
    installed, gave no list."""

    pci: tuple[PciGpu, ...]
    module_version: str | None
    module_on_disk: str | None
    smi_installed: bool
    gpus: tuple[Gpu, ...]
    driver_version: str | None
    smi_error: str | None
    nouveau_loaded: bool


SCRIPT = r"""
for device in /sys/bus/pci/devices/*; do
  [ "$(cat "$device/vendor" 2>/dev/null)" = 0x10de ] || continue
  driver=none
  [ -e "$device/driver" ] && driver=$(basename "$(readlink -f "$device/driver")")
  printf 'pci|%s|%s|%s|%s\n' "${device##*/}" "$(cat "$device/class")" \
    "$(cat "$device/device")" "$driver"
done
[ -r /sys/module/nvidia/version ] && echo "module=$(cat /sys/module/nvidia/version)"
[ -r /sys/module/nvidia/version ] || {
  [ -r /proc/driver/nvidia/version ] && \
    echo "module=$(grep -Eo '[0-9]{3}\.[0-9]+(\.[0-9]+)?' /proc/driver/nvidia/version | head -n1)"
}
[ -d /sys/module/nouveau ] && echo nouveau=1
disk=$(modinfo -F version nvidia 2>/dev/null) && [ -n "$disk" ] && echo "disk=$disk"
if command -v nvidia-smi >/dev/null; then
  echo smi=1
  {
    limited nvidia-smi --format=csv,noheader,nounits \
      --query-gpu=index,uuid,driver_version,memory.total,compute_cap,name 2>&1 ||
      echo "nvidia-smi ended with status $?"
  } | sed 's/^/gpu|/'
fi
exit 0
"""

ROW = re.compile(r"^(\d+), (GPU-[\w-]+), ([^,]+), ([^,]+), ([^,]+), (.+)$")


def parse(output: Output) -> GpuFacts:
    lines = output.text.splitlines()
    values = key_values("\n".join(line for line in lines if "|" not in line))
    answers = [line[4:] for line in lines if line.startswith("gpu|")]
    rows = [match for answer in answers if (match := ROW.match(answer.strip()))]
    return GpuFacts(
        pci=tuple(_pci(lines)),
        module_version=values.get("module") or None,
        module_on_disk=values.get("disk") or None,
        smi_installed=values.get("smi") == "1",
        gpus=tuple(_gpu(row) for row in rows),
        driver_version=_available(rows[0][3]) if rows else None,
        smi_error=None if rows or not answers else " ".join(answers)[:300],
        nouveau_loaded=values.get("nouveau") == "1",
    )


def _pci(lines: list[str]) -> list[PciGpu]:
    fields = [line.split("|")[1:] for line in lines if line.startswith("pci|")]
    return [
        PciGpu(address, device, None if driver == "none" else driver)
        for address, pci_class, device, driver in fields
        if pci_class.startswith(DISPLAY_CLASSES)
    ]


def _gpu(row: re.Match[str]) -> Gpu:
    memory = _available(row[4])
    return Gpu(
        index=int(row[1]),
        uuid=row[2],
        name=row[6].strip(),
        memory_mib=int(memory) if memory and memory.isdigit() else None,
        compute_capability=_available(row[5]),
    )


def _available(text: str) -> str | None:
    return None if text.strip() in NOT_AVAILABLE else text.strip()


GPU = Fact("gpu", SCRIPT, parse)
