"""What another run of provision would change: the host is not as rigup would leave it."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.doctor.finding import Finding
from provisioner.doctor.situation import Situation, found
from provisioner.errors import BlockedError
from provisioner.facts import FactUnreadable
from provisioner.steps import ALL_STEPS, Blocked, Change


def look(situation: Situation) -> Iterator[Finding]:
    """Raises FactUnreadable after the last step where one could not be judged."""
    unread: FactUnreadable | None = None
    for step in ALL_STEPS:
        try:
            outcome = step.check(situation.facts, situation.host)
        except FactUnreadable as error:
            unread = error
            continue
        except BlockedError as error:
            outcome = Blocked(error.message, error.remedy or "")
        if isinstance(outcome, Change):
            yield _finding(situation, step.name, outcome.reason, _way(situation, outcome))
        elif isinstance(outcome, Blocked):
            yield _finding(situation, step.name, outcome.reason, outcome.what_to_do)
    if unread is not None:
        raise unread


def _way(situation: Situation, change: Change) -> str:
    only_a_reboot_helps = change.needs_reboot and not change.actions
    return f"{situation.provision} --reboot" if only_a_reboot_helps else situation.provision


def _finding(situation: Situation, step: str, reason: str, fix: str) -> Finding:
    return found(
        f"not-provisioned-{step}",
        "warning",
        step,
        f"not as provisioning leaves it: {reason}",
        evidence=f"step {step}",
        where=f"{situation.provision} --check",
        fix=fix,
    )
