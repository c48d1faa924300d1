"""One host, examined: every fact and probe in one round trip, then every check."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

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
    """``checked``: what was looked at and could be read whole, in the order of the report;
    ``unchecked``: the rest. ``verdict``: problems, unchecked (none was found, and not everything
    could be read), warnings or healthy."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    simulated: bool
    unchecked: tuple[str, ...] = ()
    verdict: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdict", _verdict(self.findings, self.unchecked))

    @property
    def is_well(self) -> bool:
        """No problem was found and everything was read."""
        return self.verdict in ("healthy", "warnings")


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
    checked: list[str] = []
    unchecked: list[str] = []
    for check in checks:
        try:
            for finding in check.look(situation):
                found.append(finding)
        except FactUnreadable:
            unchecked.append(check.subject)
        else:
            checked.append(check.subject)
    addressed = worst_first(replace(one, fix=_addressed(one.fix, host)) for one in _once(found))
    return Diagnosis(addressed, tuple(checked), situation.simulated, tuple(unchecked))


def _verdict(findings: Sequence[Finding], unchecked: Sequence[str]) -> str:
    severities = {finding.severity for finding in findings}
    if "problem" in severities:
        return "problems"
    if "unread" in severities or unchecked:
        return "unchecked"
    return "warnings" if "warning" in severities else "healthy"


def _unread(fact: str, why: Unreadable) -> Finding:
    return Finding(
        id="unreadable",
        severity="unread",
        subject=fact.removeprefix("doctor_").replace("_", " "),
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
