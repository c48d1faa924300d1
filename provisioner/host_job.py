"""One host's part of a run: how it is reached, what is wished for it, how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from inventory import Host
from provisioner.errors import RigupError
from provisioner.facts import ALL_FACTS, GPU, OS, Facts, FactUnreadable, gather
from provisioner.interrupt import Stop
from provisioner.parallel import as_rigup_error
from provisioner.reboot import RebootPolicy
from provisioner.report import HostReport, Progress, Standing
from provisioner.steps.base import Step
from provisioner.steps.directories import wanted_directories
from provisioner.transport.base import Transport


@dataclass(frozen=True)
class Job:
    """What to do with one host. ``sudo``: read facts as root (a sudo password is at hand).

    ``verify_anew``: prove again what an earlier run has proven.
    ``left_out``: steps that the user does not want this time; the proofs run only where these
    have nothing to do either.
    """

    host: Host
    transport: Transport
    sudo: bool = False
    stop: Stop = field(default_factory=Stop)
    reboots: RebootPolicy = field(default_factory=RebootPolicy)
    verify_anew: bool = False
    left_out: Sequence[Step] = ()
    standing: Standing = field(default_factory=Standing)


def reported(job: Job, progress: Progress, work: Callable[[], None]) -> HostReport:
    """What ``work`` makes of the job's standing; its error ends in the report, never outside."""
    started = time.monotonic()
    error: RigupError | None = None
    try:
        work()
    except Exception as problem:
        error = as_rigup_error(problem, job.host.name)
        progress(job.host.name, "error", error.message)
    finally:
        job.transport.close()
    return job.standing.report(job.host.name, error, time.monotonic() - started)


def gather_facts(job: Job) -> Facts:
    """All facts in one round trip; whether they come from a practice host is noted."""
    facts = gather(
        job.transport,
        ALL_FACTS,
        state_dir=job.host.state_dir,
        directories=wanted_directories(job.host),
        sudo=job.sudo,
    )
    job.standing.note(simulated=_is_simulated(facts))
    return facts


def _is_simulated(facts: Facts) -> bool:
    """Unreadable facts are for the steps that need them to report."""
    with suppress(FactUnreadable):
        if facts[OS].is_practice_host:
            return True
    with suppress(FactUnreadable):
        return any(gpu.simulated for gpu in facts[GPU].gpus)
    return False
