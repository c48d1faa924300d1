"""Xids: the NVIDIA driver's numbered errors in the kernel log, grouped per GPU and code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from provisioner import data
from provisioner.doctor.finding import Finding, Severity
from provisioner.doctor.textlog import Block

XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9A-Fa-f:.]{4,20})\): (\d{1,5})\b")
TIMES = (
    re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"),
    re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \d{4}"),
    re.compile(r"[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d"),
    re.compile(r"\[ *\d{1,10}\.\d{1,9}\]"),
)
"""Time stamps before the message, the most telling first: ISO (journal, dmesg), dmesg -T, syslog,
seconds since boot."""
MAX_GROUPS = 512
UNKNOWN: dict[str, Any] = {"meaning": "a code that rigup does not know", "action": "look it up"}
LOOK_IT_UP = "look it up in NVIDIA's catalogue, https://docs.nvidia.com/deploy/xid-errors/"
PREFIX = 80
"""How far before the message its time stamp begins, in characters."""


@dataclass(frozen=True)
class XidEvent:
    """``gpu`` is the PCI address as the kernel wrote it; ``time`` is "" where there is none."""

    gpu: str
    code: int
    time: str
    text: str
    line: int


@dataclass
class _Group:
    first: XidEvent
    last: XidEvent
    count: int = 1


@dataclass
class XidTable:
    """Collects events in bounded memory: one group per GPU and code."""

    groups: dict[tuple[str, int], _Group] = field(default_factory=dict)
    left_out: int = 0

    def add(self, event: XidEvent) -> None:
        key = (event.gpu, event.code)
        group = self.groups.get(key)
        if group is not None:
            group.last, group.count = event, group.count + 1
        elif len(self.groups) < MAX_GROUPS:
            self.groups[key] = _Group(event, event)
        else:
            self.left_out += 1

    def findings(self, place: Callable[[int], str]) -> Iterator[Finding]:
        """One finding per GPU and code, GPU by GPU; unknown codes are named as unknown. ``place``
        makes a text of a line number."""
        codes: dict[str, list[int]] = {}
        for gpu, code in sorted(self.groups):
            codes.setdefault(gpu, []).append(code)
        for gpu, code in sorted(self.groups):
            group = self.groups[gpu, code]
            yield _finding(group, place(group.last.line), codes[gpu])
        if self.left_out:
            yield _too_many(self.left_out)


def events(block: Block) -> Iterator[XidEvent]:
    """The Xids that a part of a kernel log reports."""
    if "Xid" not in block.text:
        return
    for match in XID.finditer(block.text):
        shown = block.excerpt(*match.span())
        before = block.excerpt(match.start(), match.start(), PREFIX, 0)
        line = block.line_number(match.start())
        yield XidEvent(match[1].lower(), int(match[2]), _time(before), shown, line)


def _time(prefix: str) -> str:
    found = (pattern.search(prefix) for pattern in TIMES)
    return next((match[0] for match in found if match), "")


def _finding(group: _Group, where: str, companions: list[int]) -> Finding:
    table = data.load("xid")
    code = group.last.code
    row = table["codes"].get(code, UNKNOWN)
    action = table["actions"].get(row["action"], {"severity": "warning", "fix": LOOK_IT_UP})
    severity: Severity = action["severity"]
    return Finding(
        id=f"xid-{code}",
        severity=severity,
        subject=f"GPU {group.last.gpu}",
        cause=f"Xid {code}: {row['meaning']}{_seen(group)}",
        evidence=group.last.text,
        where=where,
        fix=f"{action['fix']}{_companions(row, code, companions)}",
        source=f"{table['source']}; {table['catalogue']}",
        count=group.count,
    )


def _seen(group: _Group) -> str:
    first, last = group.first.time, group.last.time
    if group.count == 1:
        return f" (at {first})" if first else ""
    between = f", first at {first}, last at {last}" if first and last else ""
    return f" ({group.count} times{between})"


def _companions(row: dict[str, Any], code: int, companions: list[int]) -> str:
    """Some codes only make sense with the others of the same GPU: say which were seen."""
    if "see" not in row:
        return ""
    wanted = row["see"]
    seen = [other for other in companions if other != code and (wanted == "any" or other in wanted)]
    meanings = data.load("xid")["codes"]
    if not seen:
        return "; none of them is in this log" if wanted != "any" else "; there is none in this log"
    named = (f"{other} ({meanings.get(other, {}).get('meaning', 'unknown')})" for other in seen)
    return f"; in this log: {', '.join(named)}"


def _too_many(count: int) -> Finding:
    return Finding(
        id="xid-flood",
        severity="warning",
        subject="kernel log",
        cause=f"{count} more Xid lines name yet other GPUs or codes",
        evidence=f"more than {MAX_GROUPS} different ones",
        where="the log",
        fix="look at the log itself: no machine has that many GPUs",
    )
