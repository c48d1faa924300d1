"""What doctor knows of a host when it judges."""

from __future__ import annotations

from dataclasses import dataclass

from inventory import Host
from provisioner.doctor.finding import Finding, Severity
from provisioner.facts import GPU, OS, FactUnreadable
from provisioner.facts.base import Facts


@dataclass(frozen=True)
class Situation:
    """``today`` is an ISO date: some findings depend on the calendar."""

    host: Host
    facts: Facts
    today: str

    @property
    def simulated(self) -> bool:
        """Are the GPUs those of a practice host?"""
        try:
            return any(gpu.simulated for gpu in self.facts[GPU].gpus) or (
                self.facts[OS].is_practice_host
            )
        except FactUnreadable:
            return False

    @property
    def provision(self) -> str:
        return f"invoke provision --host {self.host.name}"


def found(
    name: str,
    severity: Severity,
    subject: str,
    cause: str,
    *,
    evidence: str,
    where: str,
    fix: str,
    source: str = "",
) -> Finding:
    """A Finding that reads well where it is made."""
    return Finding(name, severity, subject, cause, evidence, where, fix, source)
