"""One host, examined: every fact and probe in one round trip, then every check."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from inventory import Host
from provisioner.command import Secret
from provisioner.doctor.checks import ALL_CHECKS, Check
from provisioner.doctor.finding import Finding, worst_first
from provisioner.doctor.probes import PROBES
from provisioner.doctor.situation import Situation
from provisioner.facts import ALL_FACTS, Facts, FactUnreadable, Unreadable, gather
from provisioner.steps.directories import wanted_directories
from provisioner.transport.base import Transport
from provisioner.transport.ssh import SshTransport

PLACEHOLDER = "--host HOST"


@dataclass(frozen=True)
class Diagnosis:
    """``checked``: what was looked at and could be read, in the order of the report."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    simulated: bool

    @property
    def problems(self) -> int:
        return sum(finding.severity == "problem" for finding in self.findings)


def examine_host(host: Host, sudo_password: Secret | None = None) -> Diagnosis:
    """Changes nothing. Raises TransportError or BlockedError when the host cannot be asked."""
    transport = SshTransport(host, sudo_password=sudo_password)
    try:
        return examine(transport, host, sudo=sudo_password is not None)
    finally:
        transport.close()


def examine(transport: Transport, host: Host, *, sudo: bool = False) -> Diagnosis:
    facts = gather(
        transport,
        [*ALL_FACTS, *PROBES],
        state_dir=host.state_dir,
        directories=wanted_directories(host),
        sudo=sudo,
    )
    return diagnose(host, facts, datetime.date.today().isoformat())


def diagnose(
    host: Host, facts: Facts, today: str, checks: Sequence[Check] = ALL_CHECKS
) -> Diagnosis:
    """Pure: every check on what was read; a fact that could not be read is a finding too."""
    situation = Situation(host, facts, today)
    found = [_unread(name, value) for name, value in facts.items() if isinstance(value, Unreadable)]
    checked = []
    for check in checks:
        with suppress(FactUnreadable):
            for finding in check.look(situation):
                found.append(finding)
            checked.append(check.subject)
    addressed = (replace(one, fix=_addressed(one.fix, host)) for one in _once(found))
    return Diagnosis(worst_first(addressed), tuple(checked), situation.simulated)


def _unread(fact: str, why: Unreadable) -> Finding:
    return Finding(
        id="unreadable",
        severity="warning",
        subject=fact,
        cause="could not be read, so what depends on it was not checked",
        evidence=why.reason,
        where="facts",
        fix=why.remedy or "look at it on the host",
    )


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The same failure of the same subject is told once: where it was seen first and worst."""
    seen = set()
    for finding in worst_first(findings):
        key = (finding.id, finding.subject)
        if key not in seen:
            seen.add(key)
            yield finding


def _addressed(fix: str, host: Host) -> str:
    return fix.replace(PLACEHOLDER, f"--host {host.name}")
