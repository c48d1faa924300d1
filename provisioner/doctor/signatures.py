"""The table of known failure messages: provisioner/data/failures.yaml as values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from provisioner import data
from provisioner.doctor.finding import Finding, Severity
from provisioner.doctor.phrases import Phrase, Span
from provisioner.doctor.textlog import Block

SMI_EXIT = re.compile(
    r"nvidia-smi\b[^\n]{0,120}?\b"
    r"(?:exit(?:ed with)?(?: status| code)?|status|returned)[: =]{1,3}(\d{1,3})\b"
)
"""How programs report nvidia-smi's exit code, in lower case."""


@dataclass(frozen=True)
class Signature:
    """A row: a line that contains one of ``says`` and none of ``unless`` means this failure; so
    does nvidia-smi's exit code ``exit``."""

    id: str
    subject: str
    severity: Severity
    says: tuple[Phrase, ...]
    unless: tuple[Phrase, ...]
    exit: int | None
    cause: str
    fix: str
    source: str

    def find_all(self, block: Block) -> Iterator[Span]:
        for phrase in self.says:
            for span in phrase.find_all(block.lowered):
                if not self._means_something_else(block, span):
                    yield span

    def _means_something_else(self, block: Block, span: Span) -> bool:
        line = block.excerpt(*span).lower() if self.unless else ""
        return any(phrase.find_all(line) for phrase in self.unless)

    def finding(self, evidence: str, where: str, count: int = 1) -> Finding:
        return Finding(
            self.id,
            self.severity,
            self.subject,
            self.cause,
            evidence,
            where,
            self.fix,
            self.source,
            count,
        )


@cache
def signatures() -> tuple[Signature, ...]:
    return tuple(_signature(row) for row in data.load("failures")["messages"])


def by_exit_code(code: int) -> Signature | None:
    """What an exit code of nvidia-smi means; None for 0 and for codes nobody has written down."""
    return next((one for one in signatures() if one.exit == code), None)


def recognise(block: Block) -> Iterator[tuple[Signature, Span]]:
    """Every known failure that a text names, and where in it."""
    for signature in signatures():
        yield from ((signature, span) for span in signature.find_all(block))
    if "nvidia-smi" in block.lowered:
        for match in SMI_EXIT.finditer(block.lowered):
            meant = by_exit_code(int(match[1]))
            if meant:
                yield meant, match.span()


def _signature(row: dict[str, Any]) -> Signature:
    return Signature(
        id=row["id"],
        subject=row["subject"],
        severity=row["severity"],
        says=tuple(map(Phrase.of, row.get("says", ()))),
        unless=tuple(map(Phrase.of, row.get("unless", ()))),
        exit=row.get("exit"),
        cause=row["cause"],
        fix=row["fix"],
        source=f"{row['source']} ({row['date']}, {row['mark']})",
    )
