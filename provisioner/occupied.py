"""Who works on a host: what forbids a reboot, and what a person should know before one."""

from __future__ import annotations

from inventory import Host
from provisioner.errors import BlockedError
from provisioner.facts import GPU, Facts, FactUnreadable, gather
from provisioner.facts.occupants import OCCUPANTS
from provisioner.transport.base import Transport


def require_idle(host: Host, transport: Transport, step: str, *, sudo: bool) -> str:
    """Who would be cut off without forbidding the reboot; empty when nobody is.

    Raises BlockedError, naming them, while processes use GPUs or rigup jobs run, and where that
    cannot be told; TransportError.
    """
    found = gather(transport, (GPU, OCCUPANTS), state_dir=host.state_dir, sudo=sudo)
    try:
        used = [*_jobs(found), *_processes(found)]
    except FactUnreadable as error:
        raise BlockedError(
            f"{step} needs a reboot, and who uses the host is unknown: {error.message}",
            host=host.name,
            remedy=error.remedy or "reboot the host when nobody needs it, provision again",
        ) from error
    if used:
        raise BlockedError(
            f"{step} needs a reboot, and the host is in use: {'; '.join(used)}",
            host=host.name,
            remedy="wait until they are done, or stop them (invoke jobs, invoke stop); then "
            "provision again",
        )
    return _warning(found)


def _jobs(found: Facts) -> list[str]:
    return [f"job {job}" for job in found[OCCUPANTS].jobs]


def _processes(found: Facts) -> list[str]:
    return [
        f"GPU process {process.pid} ({process.name}) of {process.user}"
        for process in found[GPU].processes
    ]


def _warning(found: Facts) -> str:
    """Who would be cut off, which does not forbid the reboot; empty when nobody is."""
    told = found[OCCUPANTS]
    parts = [f"{user} is logged in" for user in told.users]
    parts += [f"container {name} may use GPUs" for name in told.gpu_containers]
    return "; ".join(parts)
