"""How hosts ended, as text for people and as JSON for machines (docs/provision.md)."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from provisioner.show import SIMULATED, error_json, error_text
from provisioner.text import hanging

if TYPE_CHECKING:
    from provisioner.report import HostReport, StepReport
    from provisioner.verify import Proof

MARKS = {
    "ok": "=",
    "changed": "+",
    "would-change": "~",
    "blocked": "!",
    "failed": "x",
    "interrupted": "-",
}
STATUSES = ("ok", "changed", "would-change", "blocked", "failed", "interrupted", "not-started")
PROVISIONAL = "judged on the host as it is now, before the changes above"


def host_report(report: HostReport) -> str:
    """One host: a line per step, then proofs or the error."""
    lines = [_title(report)]
    for step in report.steps:
        lines.extend(_step_lines(step))
    if report.pending:
        lines.append(f"    not reached: {', '.join(report.pending)}")
    lines.extend(f"    stays: {hanging(text, 8)}" for text in report.stays)
    if report.unproven:
        lines.append(f"    {hanging(report.unproven, 8)}")
    lines.extend(_proof_line(proof) for proof in report.proofs)
    if report.error is not None:
        lines.append(f"  x {_indented(error_text(report.error, with_host=False))}")
    if report.transcript:
        lines.append(f"  transcript: {report.transcript}")
    return "\n".join(lines)


def host_report_json(report: HostReport) -> dict[str, Any]:
    return {
        "host": report.host,
        "status": report.status,
        "changed": report.changed,
        "exit_code": int(report.exit_code),
        "simulated": report.simulated,
        "seconds": round(report.seconds, 3),
        "reboots": report.reboots,
        "steps": [dataclasses.asdict(step) for step in report.steps],
        "pending": list(report.pending),
        "unproven": report.unproven,
        "stays": list(report.stays),
        "proofs": [dataclasses.asdict(proof) for proof in report.proofs],
        "error": error_json(report.error),
        "transcript": report.transcript,
    }


def summary(reports: Sequence[HostReport]) -> str:
    """One line over all hosts: ``3 hosts: 2 changed, 1 blocked``."""
    counted = Counter(report.status for report in reports)
    told = ", ".join(f"{counted[status]} {status}" for status in STATUSES if counted[status])
    return f"{len(reports)} host{'s' if len(reports) != 1 else ''}: {told}"


def _title(report: HostReport) -> str:
    if not report.started:
        return f"{report.host}: not started"
    state = report.status.upper() if report.exit_code else "ok"
    planned = any(step.status == "would-change" for step in report.steps)
    counted = f"{report.changed} change(s){' to make' if planned else ''}"
    rebooted = f", {report.reboots} reboot(s)" if report.reboots else ""
    note = f"  [{SIMULATED}]" if report.simulated else ""
    return f"{report.host}: {state}, {counted}{rebooted}, {report.seconds:.1f} s{note}"


def _step_lines(step: StepReport) -> Iterable[str]:
    done = " -> done" if step.status == "changed" else ""
    yield f"  {MARKS[step.status]} {step.step}: {hanging(step.reason, 6)}{done}"
    if step.provisional and step.status != "ok":
        yield f"      ({PROVISIONAL})"
    if step.status in ("would-change", "interrupted"):
        yield from (f"      {hanging(action, 8)}" for action in step.actions)
    if step.status == "would-change" and step.needs_reboot:
        yield "      may need a reboot to take effect: --reboot allows it"
    if step.what_to_do:
        yield f"      try: {hanging(step.what_to_do, 11)}"


def _proof_line(proof: Proof) -> str:
    mark, word = ("=", "verified") if proof.proven else ("-", "not proven")
    notes = " [SIMULATED]" if proof.simulated else ""
    if proof.recorded_at is not None:
        notes += f" [shown {_ago(proof.recorded_at)} on this very state; --verify shows it again]"
    return f"  {mark} {word}: {hanging(proof.text + notes, 6)}"


def _ago(moment: str) -> str:
    """``12 min ago``, for an ISO 8601 moment; whatever else it is, as it is."""
    try:
        seconds = max(time.time() - datetime.fromisoformat(moment).timestamp(), 0)
    except (ValueError, OverflowError, OSError):
        return moment
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
