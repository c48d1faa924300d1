"""The simulated GPUs of a practice host: ``/etc/rigup-lab-gpus.conf``."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from provisioner.errors import UsageError

CONFIG_PATH = "/etc/rigup-lab-gpus.conf"
MAX_GPUS = 8
FIRST_BUS = 0x17
BUS_STEP = 0x10

HEADER = """\
# SIMULATED GPUs of this practice host. The stand-in NVML reads this file on every call: edit it in
# place (do not replace it: containers have it bind-mounted) to change behaviour while jobs run.
#   load WHICH idle|wave|busy                          WHICH is a GPU number or `all`
#   fault WHICH none|lost|reset|hot|ecc|unknown|hang
#   process GPU PID MIB                                shown for as long as that process lives
"""


@dataclass(frozen=True)
class GpuModel:
    """A GPU to imitate. ``mig``: ``off``, ``on`` or ``none`` (no such thing). Figures: NVIDIA's
    data sheets; PCI ids: the PCI ID repository (pci-ids.ucw.cz), vendor 10de."""

    name: str
    pci_device: int
    memory_mib: int
    compute_capability: str
    power_limit_w: int
    fan: bool
    ecc: bool
    mig: str


MODELS: dict[str, GpuModel] = {
    "h100": GpuModel("NVIDIA H100 80GB HBM3", 0x2330, 81559, "9.0", 700, False, True, "off"),
    "a100": GpuModel("NVIDIA A100-SXM4-80GB", 0x20B2, 81920, "8.0", 400, False, True, "off"),
    "l40s": GpuModel("NVIDIA L40S", 0x26B9, 46068, "8.9", 350, False, True, "none"),
    "rtx4090": GpuModel("NVIDIA GeForce RTX 4090", 0x2684, 24564, "8.9", 450, True, False, "none"),
    "v100": GpuModel("Tesla V100-SXM2-32GB", 0x1DB5, 32768, "7.0", 300, False, True, "none"),
}
DEFAULT_MODEL = "h100"


def find_model(name: str) -> GpuModel:
    """The model of that name; UsageError, naming the known ones, when there is none."""
    if name not in MODELS:
        raise UsageError(f"unknown GPU model {name!r}", remedy=f"one of: {', '.join(MODELS)}")
    return MODELS[name]


def render_config(seed: str, model: GpuModel, count: int, *, load: str = "wave") -> str:
    """The file's text. ``seed`` makes the GPUs' UUIDs: the same seed, the same UUIDs."""
    lines = [
        f"name {model.name} (SIMULATED)",
        f"pci_device 0x{model.pci_device:04x}",
        f"memory_mib {model.memory_mib}",
        f"compute_capability {model.compute_capability}",
        f"power_limit_w {model.power_limit_w}",
        f"fan {'yes' if model.fan else 'no'}",
        f"ecc {'yes' if model.ecc else 'no'}",
        f"mig {model.mig}",
        *(f"gpu {index} {gpu_uuid(seed, index)} {bus_address(index)}" for index in range(count)),
        f"load all {load}",
    ]
    return HEADER + "\n".join(lines) + "\n"


def gpu_uuid(seed: str, index: int) -> str:
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{seed}.{index}.gpu.rigup.lab')}"


def bus_address(index: int) -> str:
    """The PCI address as sysfs writes it."""
    return f"0000:{FIRST_BUS + BUS_STEP * index:02x}:00.0"
