"""Live checks, one file per subject: pure functions of a Situation. This is their registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provisioner.doctor.checks import (
    agent,
    containers,
    docker,
    driver,
    gpu,
    kernel,
    packages,
    provisioning,
    resources,
    toolkit,
)
from provisioner.doctor.finding import Finding
from provisioner.doctor.situation import Situation


@dataclass(frozen=True)
class Check:
    """``subject`` says what is looked at, in the words of the report. ``look`` may raise
    FactUnreadable, which becomes a finding of its own."""

    subject: str
    look: Callable[[Situation], Iterator[Finding]]


ALL_CHECKS: tuple[Check, ...] = (
    Check("driver", driver.look),
    Check("GPUs", gpu.look),
    Check("kernel", kernel.look),
    Check("kernel log", kernel.look_at_log),
    Check("Docker", docker.look),
    Check("access to Docker", docker.look_at_access),
    Check("Docker's journal", docker.look_at_journal),
    Check("container toolkit", toolkit.look),
    Check("GPU containers", containers.look),
    Check("disk space", resources.look),
    Check("clock", resources.look_at_clock),
    Check("packages", packages.look),
    Check("agent", agent.look),
    Check("jobs", agent.look_at_jobs),
    Check("what provisioning would change", provisioning.look),
)
