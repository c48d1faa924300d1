"""Everything that would stop the later steps half-way: told at once, before anything changes."""

from __future__ import annotations

from collections.abc import Sequence

from inventory import Host
from provisioner.actions import Action
from provisioner.facts import OS, PACKAGES, Facts
from provisioner.platforms import platform_of
from provisioner.preflight.notes import find_notes
from provisioner.preflight.problems import find_problems
from provisioner.preflight.situation import Situation
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, Step, listed
from provisioner.steps.lookahead import look_ahead


class Preflight:
    """Knows the ``later`` steps: what nobody is going to install needs no room and no root."""

    name = "preflight"

    def __init__(self, later: Sequence[Step]) -> None:
        self._later = tuple(later)

    def check(self, facts: Facts, host: Host) -> Outcome:
        situation = Situation(facts, host, look_ahead(self._later, facts, host))
        problems = find_problems(situation)
        notes = find_notes(situation)
        if problems:
            return Blocked(
                listed([*(problem.reason for problem in problems), *notes]),
                "; ".join(problem.remedy for problem in problems),
            )
        if repair := _repair(situation):
            return Change("an earlier installation was cut short", repair)
        to_do = len(situation.ahead.changes)
        return Satisfied(listed([f"{to_do} step(s) to do" if to_do else "nothing to do", *notes]))


def _repair(situation: Situation) -> tuple[Action, ...]:
    """Packages that rigup cares about are repaired in any case, other people's unfinished work
    only where it would stop an installation."""
    packages = situation.facts[PACKAGES]
    if not (packages.broken or (packages.interrupted and situation.ahead.installing)):
        return ()
    return platform_of(situation.facts[OS]).repair(situation.facts)
