"""What the steps to come would do, as far as these facts tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.facts import Facts
from provisioner.steps.base import Blocked, Change, Step, check

WITHOUT_ROOT = ("agent",)
"""Steps whose own kinds of action run as the login user."""


@dataclass(frozen=True)
class Lookahead:
    """``changes``: step name -> what it would change; ``blocked``: step name -> why it cannot."""

    changes: Mapping[str, Change]
    blocked: Mapping[str, Blocked]

    @cached_property
    def installing(self) -> tuple[str, ...]:
        """The steps that would install packages."""
        return tuple(name for name, change in self.changes.items() if installs(change.actions))

    @property
    def needs_root(self) -> bool:
        return any(
            _needs_root(name, action)
            for name, change in self.changes.items()
            for action in change.actions
        )


def look_ahead(steps: Sequence[Step], facts: Facts, host: Host) -> Lookahead:
    outcomes = {step.name: check(step, facts, host) for step in steps}
    return Lookahead(
        {name: found for name, found in outcomes.items() if isinstance(found, Change)},
        {name: found for name, found in outcomes.items() if isinstance(found, Blocked)},
    )


def installs(actions: Sequence[Action]) -> bool:
    """Do they install packages?"""
    return any(trace.kind == "package" for action in actions for trace in action.traces)


def _needs_root(step: str, action: Action) -> bool:
    return action.command.sudo if isinstance(action, Run) else step not in WITHOUT_ROOT
