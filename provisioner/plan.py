"""From facts to a plan: every step's outcome, in order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory import Host
from provisioner.errors import UsageError
from provisioner.facts import Facts
from provisioner.steps.base import Change, Outcome, Step, check
from provisioner.steps.machine import Machine
from provisioner.steps.preflight import Preflight

GUARDS = (Machine.name, Preflight.name)
"""Steps that change nothing for their own sake: they keep the others from doing harm."""


@dataclass(frozen=True)
class Planned:
    """One step of a plan."""

    step: Step
    outcome: Outcome


def choose(
    steps: Sequence[Step], *, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps to take, in their own order, and those that are left out. Raises UsageError for
    a name that is no step, and where nothing remains.

    ``only`` never leaves out the guards, ``skip`` may; they judge by what is going to be done.
    """
    known = [step.name for step in steps]
    for option, names in (("--only", only), ("--skip", skip)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(
                f"{option} {','.join(unknown)}: no such step", remedy=f"steps: {', '.join(known)}"
            )
    chosen = [name for name in known if (not only or name in only) and name not in skip]
    if not chosen:
        raise UsageError("--only and --skip leave no step", remedy=f"steps: {', '.join(known)}")
    taken = [name for name in known if name in chosen or (name in GUARDS and name not in skip)]
    later = [step for step in steps if step.name in taken and step.name not in GUARDS]
    return (
        tuple(_judging(step, later) for step in steps if step.name in taken),
        tuple(step for step in steps if step.name not in taken),
    )


def _judging(step: Step, later: Sequence[Step]) -> Step:
    return Preflight(later) if isinstance(step, Preflight) else step


def plan(steps: Sequence[Step], facts: Facts, host: Host) -> tuple[Planned, ...]:
    """What each step would do, seen from these facts.

    Later steps are judged as the host is now: a step that needs an earlier one's result (the
    toolkit needs Docker) still says what it will add.
    """
    return tuple(Planned(step, check(step, facts, host)) for step in steps)


def changes(planned: Sequence[Planned]) -> int:
    return sum(isinstance(item.outcome, Change) for item in planned)


__all__ = ["Planned", "changes", "check", "choose", "plan"]
