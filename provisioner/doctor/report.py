"""Findings as text for people: problems first, every text of a host made printable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from provisioner.doctor.examine import Diagnosis
from provisioner.doctor.finding import SEVERITIES, Finding
from provisioner.text import one_line

SIMULATED = "SIMULATED GPUs: nothing here was seen on a real one"
MARKS = {"problem": "x", "unread": "?", "warning": "!", "note": "-"}
UNREAD = "could not be checked"


def log_text(findings: Sequence[Finding], name: str) -> str:
    """What a captured log tells."""
    if not findings:
        return one_line(f"{name}: nothing known was found")
    return _joined([f"{name}: {counts(findings)}"], findings)


def host_text(host: str, diagnosis: Diagnosis) -> str:
    """One host: its findings, what was looked at, and what could not be."""
    states = ["healthy"] if diagnosis.verdict == "healthy" else []
    told = counts(diagnosis.findings)
    mark = f"  [{SIMULATED}]" if diagnosis.simulated else ""
    head = f"{host}: {', '.join([*states, *([told] if told else [])])}{mark}"
    tail = [f"  checked: {', '.join(diagnosis.checked) or 'nothing, for nothing could be read'}"]
    if diagnosis.unchecked:
        tail.append(f"  not checked: {', '.join(diagnosis.unchecked)}")
    return _joined([head], diagnosis.findings, tail)


def counts(findings: Iterable[Finding]) -> str:
    """Such as ``2 problems, 1 could not be checked, 1 note``."""
    severities = [finding.severity for finding in findings]
    numbers = [(severities.count(severity), severity) for severity in SEVERITIES]
    return ", ".join(_counted(number, severity) for number, severity in numbers if number)


def _counted(number: int, severity: str) -> str:
    if severity == "unread":
        return f"{number} {UNREAD}"
    return f"{number} {severity}{'s' * (number > 1)}"


def _joined(head: Sequence[str], findings: Sequence[Finding], tail: Sequence[str] = ()) -> str:
    lines = [*head, *(line for finding in findings for line in _lines(finding)), *tail]
    return "\n".join(one_line(line) for line in lines)


def _lines(finding: Finding) -> Iterable[str]:
    times = f" ({finding.count} lines)" if finding.count > 1 else ""
    yield f"  {MARKS[finding.severity]} {finding.subject}: {finding.cause}"
    yield f"      seen:   {finding.where}{times}: {finding.evidence}"
    yield f"      fix:    {finding.fix}"
    if finding.source:
        yield f"      source: {finding.source} [{finding.id}]"
