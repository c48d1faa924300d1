"""Check, apply, check again, verify: per host, many hosts at once.

Every step is checked on fresh facts right before it is applied and again right after: a step that
still wants a change then has not converged, which is an error. So every run proves idempotence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from inventory import Host
from provisioner.errors import ExitCode, RebootRequired, RigupError, StepFailed
from provisioner.facts import ALL_FACTS, GPU, OS, PACKAGES, Facts, FactUnreadable, gather
from provisioner.parallel import as_rigup_error, each
from provisioner.plan import check, plan
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, Step
from provisioner.transport.base import Transport
from provisioner.verify import Proof, verify

PACKAGE_WAIT_S = 600
PACKAGE_POLL_S = 3

Progress = Callable[[str, str, str], None]
"""Called with (host, step, what happens); from several threads."""


@dataclass(frozen=True)
class StepReport:
    """``status``: ok, would-change, changed, blocked or failed. ``actions``: exact commands."""

    step: str
    status: str
    reason: str
    actions: tuple[str, ...] = ()
    what_to_do: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class HostReport:
    """How one host ended: its steps so far, its proofs, or the error that stopped it."""

    host: str
    steps: tuple[StepReport, ...] = ()
    proofs: tuple[Proof, ...] = ()
    error: RigupError | None = field(default=None, compare=False)
    simulated: bool = False
    seconds: float = 0.0
    transcript: str | None = None

    @property
    def changed(self) -> int:
        return sum(step.status in ("changed", "would-change") for step in self.steps)

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return self.error.exit_code
        if any(step.status == "blocked" for step in self.steps):
            return ExitCode.BLOCKED
        return ExitCode.DONE


@dataclass(frozen=True)
class Job:
    """What to do with one host. ``sudo``: read facts as root (a sudo password is at hand)."""

    host: Host
    transport: Transport
    sudo: bool = False


def provision(
    job: Job,
    steps: Sequence[Step],
    progress: Progress,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> HostReport:
    """Bring one host to the wanted state and prove it. Errors end in the report, never outside."""

    def work(draft: _Draft) -> None:
        progress(job.host.name, "facts", "reading")
        _converge(job, steps, _settled_facts(job, progress, draft, sleep), progress, draft)

    return _reported(job, progress, work)


def check_only(job: Job, steps: Sequence[Step], progress: Progress) -> HostReport:
    """The plan of one host; nothing is changed."""
    return _reported(job, progress, lambda report: _look(job, steps, report))


def fan_out(jobs: Sequence[Job], work: Callable[[Job], HostReport]) -> tuple[HostReport, ...]:
    """One report per job, in order; a bad host neither stops nor hides the others."""
    return tuple(each(jobs, work))


class _Draft:
    """The report while it grows: what a failing host got done must not be lost."""

    def __init__(self, host: str) -> None:
        self.report = HostReport(host)

    def add(self, step: StepReport) -> None:
        self.report = replace(self.report, steps=(*self.report.steps, step))


def _reported(job: Job, progress: Progress, work: Callable[[_Draft], None]) -> HostReport:
    started = time.monotonic()
    draft = _Draft(job.host.name)
    try:
        work(draft)
    except Exception as error:
        told = as_rigup_error(error, job.host.name)
        progress(job.host.name, "error", told.message)
        draft.report = replace(draft.report, error=told)
    finally:
        job.transport.close()
    return replace(draft.report, seconds=time.monotonic() - started)


def _look(job: Job, steps: Sequence[Step], draft: _Draft) -> None:
    facts = _facts(job, draft)
    for planned in plan(steps, facts, job.host):
        draft.add(_report(planned.step, planned.outcome, "would-change"))


def _converge(
    job: Job, steps: Sequence[Step], facts: Facts, progress: Progress, draft: _Draft
) -> None:
    for step in steps:
        outcome = check(step, facts, job.host)
        if isinstance(outcome, Change):
            facts = _bring_about(job, step, outcome, progress, draft)
            continue
        draft.add(_report(step, outcome, "changed"))
        progress(job.host.name, step.name, outcome.reason)
        if isinstance(outcome, Blocked):
            return
    progress(job.host.name, "verify", "running a container")
    proofs = verify(job.transport, facts)
    draft.report = replace(draft.report, proofs=proofs)
    progress(job.host.name, "verify", "; ".join(proof.text for proof in proofs))


def _settled_facts(
    job: Job, progress: Progress, draft: _Draft, sleep: Callable[[float], None]
) -> Facts:
    """Facts read while packages are being installed (by a killed run's apt, or unattended
    upgrades) are half true: wait. Raises StepFailed when it takes too long."""
    for _ in range(PACKAGE_WAIT_S // PACKAGE_POLL_S):
        facts = _facts(job, draft)
        if not _is_busy(facts):
            return facts
        progress(job.host.name, "packages", "another package manager is at work, waiting")
        sleep(PACKAGE_POLL_S)
    raise StepFailed(
        f"another package manager has been at work for {PACKAGE_WAIT_S} s",
        host=job.host.name,
        remedy="look at it on the host (ps, /var/log/apt), then provision again",
    )


def _is_busy(facts: Facts) -> bool:
    with suppress(FactUnreadable):
        return facts[PACKAGES].busy
    return False


def _bring_about(job: Job, step: Step, change: Change, progress: Progress, draft: _Draft) -> Facts:
    """Apply, look again, report; raises when the host still is not as wanted.

    What only shows after the first actions (a fresh driver's module is not loaded) is done too.
    """
    started = time.monotonic()
    progress(job.host.name, step.name, f"changing: {change.reason}")
    facts, after = _apply(job, step, change, progress)
    if isinstance(after, Change) and after.actions != change.actions:
        change = replace(change, actions=(*change.actions, *after.actions))
        facts, after = _apply(job, step, after, progress)
    seconds = time.monotonic() - started
    draft.add(_report(step, change, "changed", seconds))
    if not isinstance(after, Satisfied):
        raise _not_converged(job.host.name, step, change, after)
    progress(job.host.name, step.name, f"done in {seconds:.1f} s")
    return facts


def _apply(job: Job, step: Step, change: Change, progress: Progress) -> tuple[Facts, Outcome]:
    for action in change.actions:
        progress(job.host.name, step.name, f"  {action.label or action.describe()}")
        action.apply(job.transport)
    facts = _gather(job)
    return facts, check(step, facts, job.host)


def _not_converged(host: str, step: Step, applied: Change, after: Change | Blocked) -> RigupError:
    if applied.needs_reboot:
        return RebootRequired(
            f"{step.name}: installed, but only a reboot makes it work ({after.reason})",
            host=host,
            remedy="reboot the host when nobody needs it, then provision again",
        )
    return StepFailed(
        f"{step.name} was applied but the host still is not as wanted: {after.reason}",
        host=host,
        remedy=after.what_to_do if isinstance(after, Blocked) else "read the transcript",
    )


def _facts(job: Job, draft: _Draft) -> Facts:
    facts = _gather(job)
    draft.report = replace(draft.report, simulated=_is_simulated(facts))
    return facts


def _is_simulated(facts: Facts) -> bool:
    """Unreadable facts are for the steps that need them to report."""
    with suppress(FactUnreadable):
        if facts[OS].is_practice_host:
            return True
    with suppress(FactUnreadable):
        return any(gpu.simulated for gpu in facts[GPU].gpus)
    return False


def _gather(job: Job) -> Facts:
    return gather(job.transport, ALL_FACTS, state_dir=job.host.state_dir, sudo=job.sudo)


def _report(step: Step, outcome: Outcome, status: str, seconds: float = 0.0) -> StepReport:
    if isinstance(outcome, Satisfied):
        return StepReport(step.name, "ok", outcome.reason)
    if isinstance(outcome, Blocked):
        return StepReport(step.name, "blocked", outcome.reason, what_to_do=outcome.what_to_do)
    actions = tuple(action.describe() for action in outcome.actions)
    return StepReport(step.name, status, outcome.reason, actions, seconds=seconds)
