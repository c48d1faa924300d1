"""A directory for GPU leases that belongs to root, so that all users of a host share one."""

from __future__ import annotations

from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, Run, WriteFile
from provisioner.command import Command
from provisioner.facts import GPU, GPU_LEASES, Facts
from provisioner.facts.gpu_leases import CONFIGURATION, DIRECTORY, MODE
from provisioner.steps.base import Change, Outcome, Satisfied

ENTRY = f"d {DIRECTORY} {MODE} root root -"
CONFIGURATION_TEXT = f"# written by rigup: where users see each other's GPU leases\n{ENTRY}\n"
CREATE = Command.of("systemd-tmpfiles", "--create", CONFIGURATION, sudo=True)
SCRIPT = r"""
set -eu
if [ -L "$1" ] || [ ! -d "$1" ]; then rm -f -- "$1"; fi
mkdir -m 755 -- "$1" 2>/dev/null || :
chown -h root:root -- "$1"
[ ! -L "$1" ] && [ -d "$1" ]
chmod -- "$2" "$1"
"""
"""Any user may have put something there, or puts it there meanwhile: a link is never followed. What
is root's in a sticky directory cannot be exchanged any more."""


def make_directory(path: str) -> Command:
    return Command.sh(SCRIPT, path, MODE, sudo=True)


class GpuLeases:
    """tmpfiles.d(5) makes it again at every boot: /run is empty then."""

    name = "gpu_leases"

    def check(self, facts: Facts, host: Host) -> Outcome:
        found = facts[GPU_LEASES]
        if not facts[GPU].present:
            return Satisfied("no NVIDIA GPU")
        lasting = not found.tmpfiles or found.configuration == ENTRY
        if found.fit and lasting:
            return Satisfied(f"{DIRECTORY} is root's")
        actions: tuple[Action, ...] = (Run(make_directory(DIRECTORY)),)
        if found.tmpfiles:
            write = WriteFile(PurePosixPath(CONFIGURATION), CONFIGURATION_TEXT)
            actions = (write, *actions, Run(CREATE))
        missing = "is not there" if found.owner is None else "is not root's, open to all users"
        reason = f"{DIRECTORY} {missing}" if not found.fit else f"{DIRECTORY} would be gone at boot"
        return Change(reason, actions)
