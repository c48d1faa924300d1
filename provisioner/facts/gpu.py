"""The GPUs on the PCI bus, and the driver: which module is loaded, what nvidia-smi says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values
from provisioner.facts.gpu_script import SCRIPT

NVIDIA_VENDOR = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")
NVSWITCH_CLASS = "0x0680"
OLDEST_NVSWITCH = 0x1AC0
"""Bridges of that class with lower ids are mainboard chipsets (pci-ids)."""
PASSED_THROUGH = ("vfio-pci", "pci-stub", "pciback")
"""Drivers that keep a device for a virtual machine."""
GONE = "GPU is lost"
"""What nvidia-smi writes in place of values of a GPU that no longer answers."""
NOT_AVAILABLE = {"", "N/A", "[N/A]", "[Not Supported]", "[Unknown Error]"}


@dataclass(frozen=True)
class PciGpu:
    """A GPU on the bus. ``device`` is the PCI device id, such as ``0x2330``. ``left_out``: the
    driver is told to leave it alone (NVreg_ExcludedGpus, driver_override)."""

    address: str
    device: str
    driver: str | None
    left_out: bool = False


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver knows it; None where the driver answers N/A. Memory in MiB.

    ``persistence``: the driver stays initialised when nobody uses the GPU. ``address``: on the PCI
    bus, as :class:`PciGpu` writes it.
    """

    index: int
    uuid: str
    name: str
    memory_mib: int | None
    compute_capability: str | None
    persistence: bool | None = None
    address: str | None = None

    @property
    def simulated(self) -> bool:
        return "SIMULATED" in self.name


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU; ``?`` where ps does not show who or what it is.

    ``gpu_uuid`` is None where nvidia-smi fails: programs that were started before may compute on,
    and are known by holding /dev/nvidia-uvm, which only CUDA opens.
    """

    pid: int
    user: str
    name: str
    gpu_uuid: str | None


@dataclass(frozen=True)
class GpuFacts:
    """``module_version``: the loaded nvidia kernel module's; ``module_on_disk``: what the running
    kernel would load; ``smi_error``: why nvidia-smi, if installed, gave no list.

    Flavours are open or proprietary, None where that cannot be told. ``library_version``: the user
    space's. ``runfile``: the driver came from NVIDIA's own installer, no package. ``nvswitches``:
    those on the bus that are not passed through to guests.
    """

    pci: tuple[PciGpu, ...]
    module_version: str | None
    module_on_disk: str | None
    smi_installed: bool
    gpus: tuple[Gpu, ...]
    driver_version: str | None
    smi_error: str | None
    nouveau_loaded: bool
    module_flavour: str | None = None
    disk_flavour: str | None = None
    library_version: str | None = None
    runfile: bool = False
    nvswitches: int = 0
    processes: tuple[GpuProcess, ...] = ()

    @property
    def own(self) -> tuple[PciGpu, ...]:
        """Those on the bus that are not passed through to guests, or left out on purpose."""
        return tuple(
            gpu for gpu in self.pci if gpu.driver not in PASSED_THROUGH and not gpu.left_out
        )

    @property
    def present(self) -> bool:
        """Does this host have an NVIDIA GPU for itself?"""
        return bool(self.own or self.gpus)


ROW = re.compile(
    r"^(?P<index>\d+), (?P<uuid>GPU-[\w-]+), (?P<driver>[^,]+), (?P<memory>[^,]+), "
    r"(?P<capability>[^,]+), (?:(?P<persistence>Enabled|Disabled|N/A|\[[^],]+\]), )?"
    r"(?:(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]|N/A|\[[^],]+\]), )?"
    r"(?P<name>.+)\Z"
)
APP = re.compile(r"^(GPU-[\w-]+), (\d+)\Z")
HOLDS = re.compile(r"holds\|(\d+)")
PROCESS = re.compile(r"^(\d+) +(\S+) +(.+)\Z")
LICENSES = {"NVIDIA": "proprietary", "Dual MIT/GPL": "open"}
PERSISTENCE = {"Enabled": True, "Disabled": False}


def parse(output: Output) -> GpuFacts:
    lines = output.text.splitlines()
    values = key_values("\n".join(line for line in lines if "|" not in line))
    answers = [line[4:] for line in lines if line.startswith("gpu|")]
    rows = [
        match for answer in answers if GONE not in answer and (match := ROW.match(answer.strip()))
    ]
    return GpuFacts(
        pci=tuple(_pci(lines)),
        module_version=values.get("module") or None,
        module_on_disk=values.get("disk") or None,
        smi_installed=values.get("smi") == "1",
        gpus=tuple(_gpu(row) for row in rows),
        driver_version=next(filter(None, (_version(row["driver"]) for row in rows)), None),
        smi_error=None if rows or not answers else " ".join(answers)[:300],
        nouveau_loaded=values.get("nouveau") == "1",
        module_flavour=values.get("flavour"),
        disk_flavour=LICENSES.get(values.get("license", "")),
        library_version=_library(values.get("library", "")),
        runfile=values.get("runfile") == "1",
        nvswitches=sum(_is_nvswitch(*fields) for fields in _bus(lines)),
        processes=tuple(_processes(lines)),
    )


def _bus(lines: list[str]) -> list[list[str]]:
    """Address, class, device and driver of every NVIDIA device; and why it is left out, if so."""
    return [line.split("|")[1:] for line in lines if line.startswith("pci|")]


def _pci(lines: list[str]) -> list[PciGpu]:
    return [
        PciGpu(address, device, None if driver == "none" else driver, any(left_out))
        for address, pci_class, device, driver, *left_out in _bus(lines)
        if pci_class.startswith(DISPLAY_CLASSES)
    ]


def _is_nvswitch(address: str, pci_class: str, device: str, driver: str, *_: str) -> bool:
    is_switch = pci_class.startswith(NVSWITCH_CLASS) and int(device, 16) >= OLDEST_NVSWITCH
    return is_switch and driver not in PASSED_THROUGH


def _gpu(row: re.Match[str]) -> Gpu:
    memory = _available(row["memory"])
    return Gpu(
        index=int(row["index"]),
        uuid=row["uuid"],
        name=row["name"].strip(),
        memory_mib=int(memory) if memory and memory.isdigit() else None,
        compute_capability=_available(row["capability"]),
        persistence=PERSISTENCE.get(row["persistence"] or ""),
        address=_address(row["bus"]),
    )


def _address(bus_id: str | None) -> str | None:
    """nvidia-smi's ``00000000:3B:00.0`` as sysfs writes it: ``0000:3b:00.0``."""
    domain, colon, rest = (bus_id or "").partition(":")
    return f"{int(domain, 16):04x}:{rest.lower()}" if colon else None


def _version(text: str) -> str | None:
    """None for anything that is no version, such as ``[N/A]`` or ``ERR!``."""
    return text.strip() if re.fullmatch(r"\d{3,4}(\.\d+)+", text.strip()) else None


def _library(path: str) -> str | None:
    """The version that the library's file name carries."""
    found = re.search(r"\.so\.(\d{3}\.[\d.]+)\Z", path)
    return found[1] if found else None


def _processes(lines: list[str]) -> list[GpuProcess]:
    told = {
        row[1]: (row[2], row[3])
        for line in lines
        if line.startswith("ps|") and (row := PROCESS.match(line[3:].strip()))
    }
    users: list[tuple[str, str | None]] = [
        (row[2], row[1])
        for line in lines
        if line.startswith("app|") and (row := APP.match(line[4:].strip()))
    ]
    users += [(row[1], None) for line in lines if (row := HOLDS.fullmatch(line))]
    return [GpuProcess(int(pid), *told.get(pid, ("?", "?")), uuid) for pid, uuid in users]


def _available(text: str) -> str | None:
    return None if text.strip() in NOT_AVAILABLE else text.strip()


GPU = Fact("gpu", SCRIPT, parse, slow=True)
