"""Persistence mode that survives a reboot: without it every query initialises the GPUs anew."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, Run, WriteFile
from provisioner.command import Command
from provisioner.facts import GPU, KERNEL, NVIDIA_SERVICES, OS, Facts
from provisioner.facts.gpu import GpuFacts
from provisioner.facts.nvidia_services import OWN_PERSISTENCE, PERSISTENCED, Unit
from provisioner.steps.base import Change, Outcome, Satisfied, listed
from provisioner.traces import Trace

OFF = "--no-persistence-mode"
DROP_IN = PurePosixPath(f"/etc/systemd/system/{PERSISTENCED}.d/rigup.conf")
OWN_UNIT = PurePosixPath(f"/etc/systemd/system/{OWN_PERSISTENCE}")
PLAIN_WORD = re.compile(r"[\w./=:+-]+")
RELOAD = Command.of("systemctl", "daemon-reload", sudo=True, timeout_s=90)

OWN_UNIT_TEXT = """\
# written by rigup: this driver came without nvidia-persistenced.service
[Unit]
Description=Keep the NVIDIA driver initialised (persistence mode)
After=systemd-modules-load.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/env nvidia-smi -pm 1

[Install]
WantedBy=multi-user.target
"""


class Persistence:
    name = "persistence"

    def check(self, facts: Facts, host: Host) -> Outcome:
        gpu, services = facts[GPU], facts[NVIDIA_SERVICES]
        if not gpu.present:
            return Satisfied("no NVIDIA GPU")
        if not gpu.gpus:
            return Change(
                "no driver answers yet, so none stays initialised", _start(PERSISTENCED, True)
            )
        if kind := outer_machine(facts):
            return Satisfied(f"this host is a container ({kind}): the outer machine keeps the mode")
        if services.persistenced.loaded:
            return _with_daemon(gpu, services.persistenced)
        return _with_own_unit(gpu, services.own_persistence)


def outer_machine(facts: Facts) -> str | None:
    """The kind of container that this host is, where the driver's daemons run outside of it.
    Practice hosts are containers that play a whole machine."""
    return None if facts[OS].is_practice_host else facts[KERNEL].container


def _with_daemon(gpu: GpuFacts, unit: Unit) -> Outcome:
    reasons: list[str] = []
    actions: list[Action] = []
    if OFF in unit.arguments:
        reasons.append(f"{PERSISTENCED} starts its daemon with {OFF}")
        actions += [WriteFile(DROP_IN, drop_in(unit)), Run(RELOAD)]
    reasons += _lacks(gpu, unit)
    if not reasons:
        return Satisfied(f"persistence mode is on, {PERSISTENCED} keeps it over reboots")
    return Change(listed(reasons), (*actions, *_start(PERSISTENCED, not unit.wanted)))


def _with_own_unit(gpu: GpuFacts, unit: Unit) -> Outcome:
    reasons = _lacks(gpu, unit)
    if not reasons:
        return Satisfied(f"persistence mode is on, {OWN_PERSISTENCE} keeps it over reboots")
    write = WriteFile(OWN_UNIT, OWN_UNIT_TEXT)
    return Change(listed(reasons), (write, Run(RELOAD), *_start(OWN_PERSISTENCE, True)))


def drop_in(unit: Unit) -> str:
    """Reset ExecStart, keep the other arguments (such as the user that the package made)."""
    kept = [word for word in unit.arguments if word != OFF and PLAIN_WORD.fullmatch(word)]
    program = " ".join(["/usr/bin/nvidia-persistenced", *kept, "--persistence-mode"])
    return f"# written by rigup\n[Service]\nExecStart=\nExecStart={program}\n"


def _lacks(gpu: GpuFacts, unit: Unit) -> list[str]:
    off = [str(found.index) for found in gpu.gpus if found.persistence is False]
    reasons = [f"persistence mode is off on GPU {', '.join(off)}"] if off else []
    if not unit.loaded:
        reasons.append("no unit would turn it on at a boot")
    elif not unit.wanted or not unit.active:
        reasons.append("its unit is not started at boot" if not unit.wanted else "its unit is down")
    return reasons


def _start(unit: str, want: bool) -> tuple[Action, ...]:
    """``add-wants`` and not ``enable``: Ubuntu's unit has no [Install] section."""
    wants = Command.of("systemctl", "add-wants", "multi-user.target", unit, sudo=True)
    restart = Command.of("systemctl", "restart", unit, sudo=True, timeout_s=180)
    wanting = (Run(wants, traces=(Trace("unit", unit),)),) if want else ()
    return (*wanting, Run(restart))
