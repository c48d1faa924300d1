"""The QEMU command line, and which accelerator really works here."""

from __future__ import annotations

import functools
import os
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")
KVM_BOOT_S = 20.0
"""With KVM a kernel speaks after about three seconds; a machine that needs longer has none."""
KERNEL_SPEAKS = b"Linux version"
FOREVER_GONE = ("setpriv", "--pdeathsig", "KILL", "--")
"""QEMU dies with the process that started it, however that one ends."""


@dataclass(frozen=True)
class Machine:
    """A guest's hardware. ``seed`` is its second disk, read-only."""

    disk: Path
    memory_mib: int = 2048
    processors: int = 2
    seed: Path | None = None
    ssh_port: int | None = None

    def words(self, accelerator: str, *more: str) -> list[str]:
        """The command line; ``accelerator`` is ``kvm`` or ``tcg`` (emulation)."""
        words = [*FOREVER_GONE, "qemu-system-x86_64", "-nodefaults", "-display", "none"]
        words += ["-accel", accelerator, "-cpu", "max"]
        words += ["-m", str(self.memory_mib), "-smp", str(self.processors)]
        words += ["-drive", f"file={self.disk},if=virtio,cache=unsafe,format={_format(self.disk)}"]
        if self.seed:
            words += ["-drive", f"file={self.seed},if=virtio,format=raw,readonly=on"]
        words += ["-device", "virtio-rng-pci"]
        if self.ssh_port:
            forward = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
            words += ["-netdev", f"user,id=net,ipv6=off,{forward}"]
            words += ["-device", "virtio-net-pci,netdev=net"]
        return [*words, *more]


@functools.cache
def accelerator(image: Path) -> str:
    """``kvm`` where a kernel really boots with it, else ``tcg``.

    /dev/kvm alone says little: there are machines where it opens and a guest hangs or crashes.
    """
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    words = Machine(image).words("kvm", "-snapshot", "-serial", "stdio")
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            return "kvm" if _speaks(process, time.monotonic() + KVM_BOOT_S) else "tcg"
        finally:
            process.kill()


def _speaks(process: subprocess.Popen[bytes], deadline: float) -> bool:
    assert process.stdout is not None
    said = b""
    while KERNEL_SPEAKS not in said:
        left = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([process.stdout], [], [], left)
        data = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not data:
            return False
        said = said[-len(KERNEL_SPEAKS) :] + data
    return True


def _format(disk: Path) -> str:
    return disk.suffix.lstrip(".")
