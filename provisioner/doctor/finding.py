"""One thing that doctor found, and the order in which findings are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "unread", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("problem", "unread", "warning", "note")
"""Worst first. A problem needs somebody; what is unread may hide one; a warning will or may become
one; a note is no fault."""


@dataclass(frozen=True)
class Finding:
    """``evidence`` is the very line or value, and ``where`` it was seen; ``fix`` is what to type.
    ``count``: how often it was seen. All but ``id`` may hold text of a host: never trusted."""

    id: str
    severity: Severity
    subject: str
    cause: str
    evidence: str
    where: str
    fix: str
    source: str = ""
    count: int = 1


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity; otherwise in the order they were found."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
