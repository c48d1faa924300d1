"""What a driver's module needs before it is built: the right kernel, its headers, no nouveau."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, WriteFile
from provisioner.driver_plan import driver_parts, plan_driver, unsigned_refused
from provisioner.errors import BlockedError, CommandFailed
from provisioner.facts import GPU, KERNEL, OS, PACKAGES, Facts
from provisioner.facts.kernel import BLACKLIST, KernelFacts
from provisioner.platforms import platform_of
from provisioner.steps.base import Change, Outcome, Satisfied, listed
from provisioner.traces import Trace
from provisioner.transport.base import Transport

NO_NOUVEAU = """\
# written by rigup: nouveau holds GPUs that the NVIDIA driver shall have
blacklist nouveau
options nouveau modeset=0
"""

WITHOUT_HEADERS = re.compile(r"-dbg$|-dbgsym$|^linux-image-(extra|uc)-")
"""Metapackages of debug symbols, of additional modules and of Ubuntu Core."""


@dataclass(frozen=True)
class Headers:
    """Install the headers of one kernel or, where the package sources no longer have them, the
    newest kernel of the same kind with its headers (``newest``, may be empty)."""

    release: str
    exact: tuple[Action, ...]
    newest: tuple[Action, ...]

    @property
    def label(self) -> str:
        return f"headers of kernel {self.release}"

    @property
    def traces(self) -> tuple[Trace, ...]:
        """A kernel is never taken back."""
        return tuple(trace for action in self.exact for trace in action.traces)

    def describe(self) -> str:
        first = _described(self.exact)
        return f"{first}; where that is no longer offered: {_described(self.newest)}"

    def apply(self, transport: Transport) -> None:
        try:
            _apply(self.exact, transport)
        except CommandFailed as error:
            if not self.newest:
                raise _no_headers(self.release, error) from error
            _apply(self.newest, transport)


class Kernel:
    """Only where a module is built on the host, or shall be."""

    name = "kernel"

    def check(self, facts: Facts, host: Host) -> Outcome:
        kernel = facts[KERNEL]
        idle = _nothing_to_build(facts)
        if idle:
            return Satisfied(idle)
        if facts[GPU].gpus:
            return _kept_buildable(facts)
        try:
            plan = plan_driver(facts, host)
        except BlockedError:
            return Satisfied("no module to build: see the driver step")
        if not plan.signed and unsigned_refused(facts):
            return Satisfied("Secure Boot refuses what would be built here: see the driver step")
        parts = [*_nouveau(facts), *([] if plan.signed else _headers(facts))]
        reasons = [reason for reason, _ in parts]
        actions = tuple(action for _, needed in parts for action in needed)
        if kernel.next != kernel.running:
            newer = f"kernel {kernel.next} is installed, {kernel.running} still runs"
            return Change(listed([newer, *reasons]), actions, needs_reboot=True)
        if reasons:
            return Change(listed(reasons), actions)
        return Satisfied(f"kernel {kernel.running} is ready for the driver's module")


Part = tuple[str, tuple[Action, ...]]


def _nothing_to_build(facts: Facts) -> str:
    """Why no module is built on this host, empty where one may be."""
    gpu, kernel = facts[GPU], facts[KERNEL]
    if not gpu.present:
        return "no NVIDIA GPU, no kernel module to build"
    if kernel.container:
        return (
            f"kernel {kernel.running} is the outer machine's: this host is a container "
            f"({kernel.container}) and has no headers or initramfs of its own"
        )
    if gpu.runfile:
        return f"kernel {kernel.running}; the driver is none of a package, and is left alone"
    return ""


def _kept_buildable(facts: Facts) -> Outcome:
    """A driver that works stays as it is; DKMS must be able to build it for the next kernel."""
    kernel = facts[KERNEL]
    parts = driver_parts(facts[PACKAGES].versions)
    built_here = any("dkms" in name or name.startswith("akmod-") for name in parts)
    needed = _headers(facts) if built_here else []
    if needed:
        actions = tuple(action for _, some in needed for action in some)
        return Change(listed([reason for reason, _ in needed]), actions)
    waiting = f"; {kernel.next} takes over at the next boot" * (kernel.next != kernel.running)
    return Satisfied(f"kernel {kernel.running} has its module{waiting}")


def _nouveau(facts: Facts) -> list[Part]:
    kernel = facts[KERNEL]
    if not kernel.nouveau_installed and not facts[GPU].nouveau_loaded:
        return []
    rebuild = platform_of(facts[OS]).rebuild_initramfs() if kernel.initramfs_tool else ()
    if not kernel.nouveau_blacklisted:
        file = WriteFile(PurePosixPath(BLACKLIST), NO_NOUVEAU)
        return [("nouveau is not blacklisted", (file, *rebuild))]
    if kernel.initramfs_stale and rebuild:
        return [("the initramfs was made before nouveau was blacklisted", rebuild)]
    return []


def _headers(facts: Facts) -> list[Part]:
    """For the kernel that stays, and for those that upgrades will bring."""
    kernel = facts[KERNEL]
    later = _header_metapackages(kernel)
    missing = [name for name in later if name not in kernel.metapackages]
    present = kernel.next in kernel.headers_for
    if present and not missing:
        return []
    platform = platform_of(facts[OS])
    wanted = () if present else platform.header_packages(kernel.next, facts[OS])
    exact = platform.install(*wanted, *missing)
    newest = platform.install(*_image_metapackages(kernel), *later) if later else ()
    reason = (
        f"upgrades of kernel {kernel.next} would come without headers"
        if present
        else f"the headers of kernel {kernel.next} are missing"
    )
    return [(reason, (Headers(kernel.next, exact, newest),))]


def _image_metapackages(kernel: KernelFacts) -> tuple[str, ...]:
    return tuple(
        name
        for name in kernel.metapackages
        if name.startswith("linux-image-") and not WITHOUT_HEADERS.search(name)
    )


def _header_metapackages(kernel: KernelFacts) -> tuple[str, ...]:
    return tuple(name.replace("image", "headers", 1) for name in _image_metapackages(kernel))


def _described(actions: tuple[Action, ...]) -> str:
    return " && ".join(action.describe() for action in actions) or "nothing, give up"


def _apply(actions: tuple[Action, ...], transport: Transport) -> None:
    for action in actions:
        action.apply(transport)


def _no_headers(release: str, error: CommandFailed) -> BlockedError:
    return BlockedError(
        f"the headers of the running kernel {release} cannot be installed: {error.message}",
        host=error.host,
        remedy="upgrade the kernel from the same source, reboot, provision again",
    )
