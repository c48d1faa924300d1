"""From facts to a plan: every step's outcome, in order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory import Host
from provisioner.errors import BlockedError
from provisioner.facts import Facts, FactUnreadable
from provisioner.steps.base import Blocked, Change, Outcome, Step


@dataclass(frozen=True)
class Planned:
    """One step of a plan."""

    step: Step
    outcome: Outcome


def plan(steps: Sequence[Step], facts: Facts, host: Host) -> tuple[Planned, ...]:
    """What each step would do, seen from these facts.

    Later steps are judged as the host is now: a step that needs an earlier one's result (the
    toolkit needs Docker) still says what it will add.
    """
    return tuple(Planned(step, check(step, facts, host)) for step in steps)


def check(step: Step, facts: Facts, host: Host) -> Outcome:
    """One step's outcome; an unreadable fact or an unsupported host is a Blocked, with reason."""
    try:
        return step.check(facts, host)
    except FactUnreadable as error:
        remedy = error.remedy or f"look at the host, or: invoke facts --host {host.name}"
        return Blocked(error.message, remedy)
    except BlockedError as error:
        return Blocked(error.message, error.remedy or "")


def changes(planned: Sequence[Planned]) -> int:
    return sum(isinstance(item.outcome, Change) for item in planned)
