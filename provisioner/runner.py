"""What is done with one host: a plan, or the way to the wanted state and its proof."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from provisioner.convergence import Convergence
from provisioner.host_job import Job, gather_facts, reported
from provisioner.plan import plan
from provisioner.reachability import Repositories
from provisioner.report import HostReport, Progress, step_report
from provisioner.steps.base import Blocked, Change, Outcome, Step


def provision(
    job: Job,
    steps: Sequence[Step],
    progress: Progress,
    *,
    sleep: Callable[[float], None] | None = None,
    clock: Callable[[], float] = time.time,
) -> HostReport:
    """Bring one host to the wanted state and prove it. Errors end in the report, never outside.

    ``sleep`` (default: one that the job's ``stop`` wakes) and ``clock`` are for waiting only.
    """
    run = Convergence(job, steps, progress, sleep or job.stop.wait, clock)
    return reported(job, progress, run.converge)


def check_only(job: Job, steps: Sequence[Step], progress: Progress) -> HostReport:
    """The plan of one host; nothing is changed."""
    return reported(job, progress, lambda: _look(job, steps))


def _look(job: Job, steps: Sequence[Step]) -> None:
    job.standing.plan([step.name for step in steps])
    facts = gather_facts(job)
    provisional = False
    outcomes = {}
    for planned in plan(steps, facts, job.host):
        name, outcome = planned.step.name, planned.outcome
        outcomes[name] = outcome
        job.standing.end(step_report(name, outcome, "would-change", provisional=provisional))
        provisional = provisional or isinstance(outcome, Change)
    if _can_ask(outcomes):
        Repositories(job.transport, job.host, steps, lambda text: None).require(facts)


def _can_ask(outcomes: Mapping[str, Outcome]) -> bool:
    """May a plan ask the repositories: is nothing in the way, and the host's network as wanted?"""
    blocked = any(isinstance(outcome, Blocked) for outcome in outcomes.values())
    return not blocked and not isinstance(outcomes.get("network"), Change)
