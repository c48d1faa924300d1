"""Reads text of any origin and remembers every known failure in it, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from provisioner.doctor import toolkit_cves, xid
from provisioner.doctor.finding import Finding, worst_first
from provisioner.doctor.signatures import Signature, recognise
from provisioner.doctor.textlog import Block, blocks


@dataclass
class _Seen:
    signature: Signature
    evidence: str
    line: int
    last_line: int
    count: int = 1


@dataclass
class Scanner:
    """Feed it blocks of one text, in order; it keeps the first line of each failure and how many
    lines had it. ``name`` is what the text is called."""

    name: str
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _xids: xid.XidTable = field(default_factory=xid.XidTable)
    _toolkit: Finding | None = None

    def feed(self, block: Block) -> None:
        with_xid = set()
        for event in xid.events(block):
            self._xids.add(event)
            with_xid.add(event.line)
        for signature, span in recognise(block):
            line = block.line_number(span[0])
            if line not in with_xid:
                self._remember(signature, block.excerpt(*span), line)
        self._look_at_versions(block)

    def findings(self) -> tuple[Finding, ...]:
        """Worst first."""
        known = [
            seen.signature.finding(seen.evidence, self._place(seen.line), seen.count)
            for seen in self._seen.values()
        ]
        toolkit = [self._toolkit] if self._toolkit else []
        return worst_first([*self._xids.findings(self._place), *known, *toolkit])

    def _remember(self, signature: Signature, evidence: str, line: int) -> None:
        seen = self._seen.get(signature.id)
        if seen is None:
            self._seen[signature.id] = _Seen(signature, evidence, line, line)
        elif line > seen.last_line:
            seen.count, seen.last_line = seen.count + 1, line

    def _look_at_versions(self, block: Block) -> None:
        """The last version that is told counts: a log may show an upgrade."""
        last = deque(toolkit_cves.versions_in(block), maxlen=1)
        for version, span in last:
            place = self._place(block.line_number(span[0]))
            self._toolkit = toolkit_cves.finding(version, block.excerpt(*span), place)

    def _place(self, line: int) -> str:
        return f"{self.name}, line {line}"


def scan_stream(stream: BinaryIO, name: str) -> tuple[Finding, ...]:
    """Every known failure in a captured log."""
    scanner = Scanner(name)
    for block in blocks(stream):
        scanner.feed(block)
    return scanner.findings()


def scan_lines(lines: Iterable[str], name: str) -> tuple[Finding, ...]:
    """The same for a few lines that a host answered."""
    scanner = Scanner(name)
    scanner.feed(Block("\n".join(lines)))
    return scanner.findings()
