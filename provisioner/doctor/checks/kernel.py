"""The kernel: what it has said, and whether another one waits for a reboot."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.doctor.finding import Finding
from provisioner.doctor.scan import scan_lines
from provisioner.doctor.situation import Situation, found
from provisioner.facts import GPU, KERNEL, PACKAGES, PENDING
from provisioner.facts.kernel import KernelFacts
from provisioner.facts.kernel_log import KERNEL_LOG


def look(situation: Situation) -> Iterator[Finding]:
    kernel = situation.facts[KERNEL]
    yield from _reboot(situation, kernel)
    yield from _headers(situation, kernel)
    yield from _secure_boot(situation, kernel)


def look_at_log(situation: Situation) -> Iterator[Finding]:
    """Everything known that the kernel has said since the boot."""
    log = situation.facts[KERNEL_LOG]
    yield from scan_lines(log.lines, f"kernel log ({log.source})")


def _reboot(situation: Situation, kernel: KernelFacts) -> Iterator[Finding]:
    signs = []
    if kernel.reboot_required:
        signs.append("the distribution asks for a reboot")
    if kernel.next != kernel.running:
        signs.append(f"{kernel.running} runs, {kernel.next} is installed")
    if situation.facts[PENDING].reboot is not None:
        signs.append("a run of rigup waits for a reboot")
    if signs:
        yield found(
            "reboot-pending",
            "warning",
            "kernel",
            "a reboot is due",
            evidence="; ".join(signs),
            where="/run, /boot",
            fix=f"{situation.provision} --reboot, or reboot it when nobody works on it",
        )


def _headers(situation: Situation, kernel: KernelFacts) -> Iterator[Finding]:
    builds = "dkms" in situation.facts[PACKAGES].versions
    if builds and situation.facts[GPU].present and kernel.container is None:
        if kernel.running in kernel.headers_for:
            return
        yield found(
            "kernel-headers-missing",
            "warning",
            "kernel",
            "DKMS cannot build the driver's module: the running kernel's headers are missing",
            evidence=f"{kernel.running}; headers for {', '.join(kernel.headers_for) or 'none'}",
            where="/lib/modules",
            fix=situation.provision,
            source="DIG pre-installation actions",
        )


def _secure_boot(situation: Situation, kernel: KernelFacts) -> Iterator[Finding]:
    gpu = situation.facts[GPU]
    if kernel.secure_boot and gpu.present and gpu.smi_installed and gpu.module_version is None:
        yield found(
            "secure-boot-blocks-module",
            "problem",
            "kernel",
            "Secure Boot is on and the nvidia module is not loaded: it is not signed with a key "
            "that this machine trusts",
            evidence="Secure Boot on, no module nvidia",
            where="/sys/firmware/efi, /sys/module",
            fix="install the distribution's signed modules, or enrol the signing key at the "
            "console (sudo mokutil --import /var/lib/dkms/mok.pub, reboot)",
            source="DIG Secure Boot",
        )
