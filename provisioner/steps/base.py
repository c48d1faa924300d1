"""What a step is: a pure check that answers with an outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inventory import Host
from provisioner.actions import Action
from provisioner.errors import BlockedError
from provisioner.facts import Facts, FactUnreadable


@dataclass(frozen=True)
class Satisfied:
    """The host already is as wanted; ``reason`` says what was seen."""

    reason: str


@dataclass(frozen=True)
class Change:
    """What is missing and what will be done about it.

    ``needs_reboot``: if the host is still not as wanted after the actions, only a reboot helps.
    """

    reason: str
    actions: tuple[Action, ...]
    needs_reboot: bool = False


@dataclass(frozen=True)
class Blocked:
    """A person must act first; ``what_to_do`` says how. ``fault``: something is broken, which no
    decision but a repair helps, so the run has failed instead of waiting for somebody."""

    reason: str
    what_to_do: str
    fault: bool = False

    @property
    def status(self) -> str:
        return "failed" if self.fault else "blocked"


Outcome = Satisfied | Change | Blocked


class Step(Protocol):
    """One thing a host must have."""

    @property
    def name(self) -> str:
        """What ``--check`` and the report call it."""

    def check(self, facts: Facts, host: Host) -> Outcome:
        """Pure: the facts in, what is missing out. May raise FactUnreadable."""


def check(step: Step, facts: Facts, host: Host) -> Outcome:
    """One step's outcome; an unreadable fact or an unsupported host is a Blocked, with reason."""
    try:
        return step.check(facts, host)
    except FactUnreadable as error:
        remedy = error.remedy or f"look at the host, or: invoke facts --host {host.name}"
        return Blocked(error.message, remedy)
    except BlockedError as error:
        return Blocked(error.message, error.remedy or "")


def listed(reasons: Sequence[str]) -> str:
    return "; ".join(reasons)
