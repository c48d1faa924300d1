"""A reboot that rigup asked for and that no run has seen the end of yet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from provisioner.facts.base import Fact, Output

PATH = "/var/lib/rigup/pending-reboot.json"


@dataclass(frozen=True)
class PendingReboot:
    """``boot_id`` is the one before the reboot; ``asked_at`` is in seconds since the epoch, by
    the clock of whoever asked."""

    step: str
    boot_id: str
    asked_at: float

    def to_json(self) -> str:
        return json.dumps(
            {"step": self.step, "boot_id": self.boot_id, "asked_at": self.asked_at},
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> PendingReboot:
        """Raises ValueError for anything else than what :meth:`to_json` makes."""
        value: Any = json.loads(text)
        try:
            return cls(str(value["step"]), str(value["boot_id"]), float(value["asked_at"]))
        except (LookupError, TypeError) as error:
            raise ValueError(f"no record of a reboot: {text[:80]!r}") from error


@dataclass(frozen=True)
class PendingFacts:
    """``reboot`` is None where none is pending; ``damaged`` where the record says nothing."""

    reboot: PendingReboot | None
    damaged: bool = False


SCRIPT = f"[ -e {PATH} ] || exit 0\ncat {PATH}\n"


def parse(output: Output) -> PendingFacts:
    if not output.text.strip():
        return PendingFacts(None)
    try:
        return PendingFacts(PendingReboot.from_json(output.text))
    except ValueError:
        return PendingFacts(None, damaged=True)


PENDING = Fact("pending", SCRIPT, parse)
