"""What became of one host: its steps, its proofs, or what stopped it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from provisioner.errors import ExitCode, Interrupted, RigupError
from provisioner.steps.base import Blocked, Outcome, Satisfied
from provisioner.verify import Proof

Progress = Callable[[str, str, str], None]
"""Called with (host, step, what happens); from several threads."""


@dataclass(frozen=True)
class StepReport:
    """``status``: ok, would-change, changed, blocked, failed or interrupted. ``actions``: exact
    commands, in a plan those that would run. ``provisional``: judged on the host as it is, while
    an earlier step of the plan would change it first."""

    step: str
    status: str
    reason: str
    actions: tuple[str, ...] = ()
    what_to_do: str = ""
    needs_reboot: bool = False
    provisional: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class HostReport:
    """How one host ended: its steps so far, its proofs, or the error that stopped it.

    ``pending``: steps that were never reached. ``stays``: what an uninstall leaves, and why.
    ``unproven``: why nothing was proven.
    ``started`` is False where nothing was even tried.
    """

    host: str
    steps: tuple[StepReport, ...] = ()
    proofs: tuple[Proof, ...] = ()
    error: RigupError | None = field(default=None, compare=False)
    simulated: bool = False
    seconds: float = 0.0
    transcript: str | None = None
    pending: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    unproven: str = ""
    reboots: int = 0
    started: bool = True

    @property
    def changed(self) -> int:
        """Steps that did something (a plan: would do), whether or not they came to an end."""
        return sum(bool(step.actions) or step.status == "changed" for step in self.steps)

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return self.error.exit_code
        ended = {step.status for step in self.steps}
        if "failed" in ended:
            return ExitCode.FAILED
        if "blocked" in ended:
            return ExitCode.BLOCKED
        return ExitCode.DONE

    @property
    def status(self) -> str:
        """ok, changed, would-change, blocked, failed, interrupted or not-started."""
        if not self.started:
            return "not-started"
        if self.exit_code != ExitCode.DONE:
            return ENDINGS[self.exit_code]
        done = {step.status for step in self.steps}
        return next((status for status in ("changed", "would-change") if status in done), "ok")


ENDINGS = {
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "failed",
    ExitCode.BLOCKED: "blocked",
    ExitCode.INTERRUPTED: "interrupted",
}


class Standing:
    """A host's report while it grows: written by the host's thread, read by anybody at any time,
    so that what a failing, stuck or stopped host got done is never lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._report = HostReport("")
        self._planned: tuple[str, ...] = ()
        self._under_way: StepReport | None = None

    def plan(self, steps: Sequence[str]) -> None:
        """The steps to come, in order."""
        self._planned = tuple(steps)

    def note(self, **known: Any) -> None:
        """Fields of the :class:`HostReport` that are known now."""
        with self._lock:
            self._report = replace(self._report, **known)

    def begin(self, step: str, reason: str) -> None:
        with self._lock:
            self._under_way = StepReport(step, "interrupted", reason)

    def doing(self, action: str) -> None:
        """An action of the step under way begins."""
        with self._lock:
            if self._under_way is not None:
                actions = (*self._under_way.actions, action)
                self._under_way = replace(self._under_way, actions=actions)

    def end(self, step: StepReport) -> None:
        with self._lock:
            self._under_way = None
            self._report = replace(self._report, steps=(*self._report.steps, step))

    @property
    def begun(self) -> tuple[str, ...]:
        """The actions of the step under way so far, the last of which may not be over."""
        return () if self._under_way is None else self._under_way.actions

    def report(
        self, host: str, error: RigupError | None = None, seconds: float = 0.0
    ) -> HostReport:
        """As it stands. With an ``error``, the step under way is the one that it hit."""
        with self._lock:
            steps = self._report.steps
            if self._under_way is not None:
                steps = (*steps, replace(self._under_way, status=_ending(error)))
            reached = {step.step for step in steps}
            pending = tuple(name for name in self._planned if name not in reached)
            return replace(
                self._report,
                host=host,
                steps=steps,
                pending=pending,
                error=error,
                seconds=seconds,
            )


def _ending(error: RigupError | None) -> str:
    if error is None or isinstance(error, Interrupted):
        return "interrupted"
    return ENDINGS[error.exit_code]


def step_report(
    step: str, outcome: Outcome, status: str, *, seconds: float = 0.0, provisional: bool = False
) -> StepReport:
    """``status`` is that of a Change: would-change or changed."""
    if isinstance(outcome, Satisfied):
        return StepReport(step, "ok", outcome.reason, provisional=provisional)
    if isinstance(outcome, Blocked):
        return StepReport(
            step, outcome.status, outcome.reason, (), outcome.what_to_do, provisional=provisional
        )
    return StepReport(
        step,
        status,
        outcome.reason,
        tuple(action.describe() for action in outcome.actions),
        needs_reboot=outcome.needs_reboot,
        provisional=provisional,
        seconds=seconds,
    )
