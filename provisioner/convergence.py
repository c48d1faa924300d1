"""Check, apply, check again, reboot where only that helps, prove: one host at a time.

Every step is checked on fresh facts right before it is applied and again right after: a step that
still wants the same change then has not converged, which is an error. So every run proves
idempotence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from provisioner import journal, pending
from provisioner.actions import Action
from provisioner.errors import StepFailed, TransportError
from provisioner.facts import GPU, OS, PENDING, Facts, FactUnreadable
from provisioner.host_job import Job, gather_facts
from provisioner.host_lock import HostLock
from provisioner.plan import check
from provisioner.proxy_check import require_working_proxy
from provisioner.reachability import Repositories
from provisioner.reboot import Reboots
from provisioner.report import Progress, StepReport, step_report
from provisioner.settled import settled
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, Step
from provisioner.steps.lookahead import installs
from provisioner.verify import require_all_gpus, verify

MOST_ROUNDS = 4
"""A step may find more to do after its first actions, but not for ever."""


class Convergence:
    """One host on its way to the wanted state."""

    def __init__(
        self,
        job: Job,
        steps: Sequence[Step],
        progress: Progress,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._job = job
        self._steps = steps
        self._progress = progress
        self._sleep = sleep
        self._lock = HostLock(job.transport)
        self._repositories = Repositories(
            job.transport, job.host, steps, lambda text: self._tell("network", text)
        )
        self._reboots = Reboots(
            job.host,
            job.transport,
            job.reboots,
            lambda text: self._tell("reboot", text),
            sudo=job.sudo,
            sleep=sleep,
            clock=clock,
        )

    def converge(self) -> None:
        self._job.standing.plan([step.name for step in self._steps])
        self._tell("facts", "reading")
        facts = self._picked_up(self._first_facts())
        for step in self._steps:
            self._job.stop.check()
            outcome = check(step, facts, self._job.host)
            if isinstance(outcome, Change):
                facts, outcome = self._bring_about(step, outcome, facts)
            else:
                self._end(step_report(step.name, outcome, "changed"), outcome.reason)
            if isinstance(outcome, Blocked):
                return
        self._prove(facts)

    def _tell(self, step: str, text: str) -> None:
        self._progress(self._job.host.name, step, text)

    def _end(self, report: StepReport, text: str) -> None:
        self._job.standing.end(report)
        self._tell(report.step, text)

    def _first_facts(self) -> Facts:
        try:
            return self._settled_facts()
        except TransportError as error:
            asked = pending.recall(self._job.host.name)
            if asked is None:
                raise
            self._reboots.wait_for_absent(asked, error)
        return self._settled_facts()

    def _settled_facts(self) -> Facts:
        return settled(
            lambda: gather_facts(self._job),
            lambda text: self._tell("packages", text),
            self._sleep,
        )

    def _picked_up(self, facts: Facts) -> Facts:
        """With what an earlier run's reboot has become."""
        name = self._job.host.name
        with suppress(FactUnreadable):
            asked = facts[PENDING].reboot or pending.recall(name)
            if asked is not None and self._reboots.pick_up(asked, facts[OS].boot_id):
                self._job.standing.note(reboots=self._reboots.done)
                return self._settled_facts()
        return facts

    def _bring_about(self, step: Step, change: Change, facts: Facts) -> tuple[Facts, Outcome]:
        """Apply, look again, until the step is satisfied or blocked; raises when neither comes.

        What only shows after the first actions (a fresh driver's module is not loaded) is done
        too, and what only a reboot completes gets one, if reboots are allowed.
        """
        started = time.monotonic()
        self._job.standing.begin(step.name, change.reason)
        self._tell(step.name, f"changing: {change.reason}")
        done: list[Action] = []
        outcome: Outcome = change
        rounds: list[tuple[Action, ...]] = []
        while isinstance(outcome, Change):
            if outcome.actions and outcome.actions not in rounds and len(rounds) < MOST_ROUNDS:
                self._apply(step, outcome, facts)
                done += outcome.actions
                rounds.append(outcome.actions)
            elif outcome.needs_reboot:
                self._reboot(step, outcome, facts)
                rounds.clear()
            else:
                raise self._not_converged(step, outcome)
            facts = gather_facts(self._job)
            outcome = check(step, facts, self._job.host)
        self._finish(step, change, outcome, time.monotonic() - started)
        return facts, outcome

    def _finish(self, step: Step, change: Change, outcome: Outcome, seconds: float) -> None:
        begun = self._job.standing.begun
        if isinstance(outcome, Blocked):
            told = (outcome.reason, begun, outcome.what_to_do)
            self._end(StepReport(step.name, outcome.status, *told, seconds=seconds), outcome.reason)
        else:
            report = StepReport(step.name, "changed", change.reason, begun, seconds=seconds)
            self._end(report, f"done in {seconds:.1f} s")

    def _apply(self, step: Step, change: Change, facts: Facts) -> None:
        self._job.stop.check()
        self._lock.hold()
        require_working_proxy(self._job.transport, self._job.host, facts, change.actions)
        if installs(change.actions):
            self._repositories.require(facts)
        journal.record(self._job.transport, step.name, change.actions, facts)
        for action in change.actions:
            self._job.stop.check()
            self._tell(step.name, f"  {action.label or action.describe()}")
            self._job.standing.doing(action.describe())
            action.apply(self._job.transport)

    def _reboot(self, step: Step, change: Change, facts: Facts) -> None:
        self._job.stop.check()
        self._lock.hold()
        self._reboots.reboot(step.name, change.reason, facts[OS].boot_id)
        self._job.standing.doing("reboot")
        self._job.standing.note(reboots=self._reboots.done)

    def _not_converged(self, step: Step, outcome: Change) -> StepFailed:
        return StepFailed(
            f"{step.name} was applied but the host still is not as wanted: {outcome.reason}",
            host=self._job.host.name,
            remedy="read the transcript",
        )

    def _prove(self, facts: Facts) -> None:
        self._job.stop.check()
        with suppress(FactUnreadable):  # a verification that needs it says so
            require_all_gpus(self._job.host.name, facts[GPU])
        missing = [
            step.name
            for step in self._job.left_out
            if not isinstance(check(step, facts, self._job.host), Satisfied)
        ]
        if missing:
            reason = f"not proven: {', '.join(missing)} was left out and is not in place"
            self._job.standing.note(unproven=reason)
            self._tell("verify", reason)
            return
        self._tell("verify", "proving, unless this very state is proven already")
        proofs = verify(self._job.transport, facts, force=self._job.verify_anew)
        self._job.standing.note(proofs=proofs)
        self._tell("verify", "; ".join(proof.text for proof in proofs if proof.proven))
