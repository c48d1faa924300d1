"""What kind of machine this is, where that decides whether rigup may touch it at all."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values

VENDOR_SPECIFIC = 0x09
"""PCI capability id (PCI Local Bus Specification 3.0, appendix H)."""
VGPU_SIGNATURE = b"VF"
CAPABILITIES_POINTER = 0x34


@dataclass(frozen=True)
class MachineFacts:
    """``wsl``: Linux inside Windows. ``tegra``: a Jetson or its like. ``musl``: the C library is
    musl. ``vgpu``: a GPU carries the mark of a licensed share of one, or the settings of the
    licensed driver are there; False also where only root may see the mark."""

    wsl: bool = False
    tegra: bool = False
    musl: bool = False
    vgpu: bool = False


# Only the first 64 bytes of a device's configuration are readable without root; a host whose
# driver runs is not asked.
SCRIPT = r"""
read -r release < /proc/sys/kernel/osrelease
case $release in *[Mm]icrosoft*) echo wsl=1 ;; esac
[ -e /dev/dxg ] && echo wsl=1
[ -e /etc/nv_tegra_release ] && echo tegra=1
[ -r /sys/devices/soc0/family ] && read -r family < /sys/devices/soc0/family &&
  case $family in *[Tt]egra*) echo tegra=1 ;; esac
for loader in /lib/ld-musl-*; do
  [ -e "$loader" ] && ! getconf GNU_LIBC_VERSION >/dev/null 2>&1 && echo musl=1
  break
done
[ -e /etc/nvidia/gridd.conf ] && echo vgpu=1
[ -e /proc/driver/nvidia/version ] && exit 0
for device in /sys/bus/pci/devices/*; do
  [ -r "$device/vendor" ] && read -r vendor < "$device/vendor" && [ "$vendor" = 0x10de ] || continue
  read -r class < "$device/class"
  case $class in 0x03*) ;; *) continue ;; esac
  config=$(as_root head -c 256 "$device/config" 2>/dev/null | od -An -v -tx1)
  printf 'config=%s\n' "$(echo $config)"
  break
done
exit 0
"""


def parse(output: Output) -> MachineFacts:
    values = key_values(output.text)
    return MachineFacts(
        wsl="wsl" in values,
        tegra="tegra" in values,
        musl="musl" in values,
        vgpu="vgpu" in values or is_vgpu(bytes.fromhex(values.get("config", ""))),
    )


def is_vgpu(configuration: bytes) -> bool:
    """Does a PCI configuration space hold NVIDIA's vendor-specific capability that begins with
    "VF"? As NVIDIA/gpu-feature-discovery (internal/vgpu) tells a vGPU."""
    at = configuration[CAPABILITIES_POINTER] if len(configuration) > CAPABILITIES_POINTER else 0
    for _ in range(len(configuration) // 4):  # a damaged list may go round in a circle
        if at == 0 or at + 5 > len(configuration):
            return False
        kind, mark = configuration[at], configuration[at + 3 : at + 5]
        if kind == VENDOR_SPECIFIC and mark == VGPU_SIGNATURE:
            return True
        at = configuration[at + 1]
    return False


MACHINE = Fact("machine", SCRIPT, parse)
