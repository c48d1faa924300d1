"""Many hosts: how many at once, in which order, and who is not started any more."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from provisioner.errors import ExitCode, RigupError
from provisioner.host_job import Job
from provisioner.interrupt import Stop
from provisioner.parallel import MAX_AT_ONCE, each
from provisioner.report import HostReport

GRACE_S = 10.0
"""How long a command that runs on a host may go on after a wish to stop before we look away."""
POLL_S = 0.1


@dataclass(frozen=True)
class Pace:
    """``at_once``: hosts worked on at the same time. ``timeout_s``: for each host, from its start.
    ``fail_fast``: after a host that failed or is blocked, no other one is started."""

    at_once: int = MAX_AT_ONCE
    timeout_s: float | None = None
    fail_fast: bool = False
    grace_s: float = GRACE_S


def over_hosts(
    jobs: Sequence[Job],
    work: Callable[[Job], HostReport],
    pace: Pace | None = None,
    stop: Stop | None = None,
) -> tuple[HostReport, ...]:
    """One report per job, in order, and started in that order; a bad host neither harms nor hides
    the others. ``work`` must not raise."""
    return _Fleet(jobs, work, pace or Pace(), stop or Stop()).run()


class _Fleet:
    def __init__(
        self, jobs: Sequence[Job], work: Callable[[Job], HostReport], pace: Pace, stop: Stop
    ) -> None:
        self._jobs = jobs
        self._work = work
        self._pace = pace
        self._stop = stop
        self._failed: str | None = None
        self._reports: dict[int, HostReport] = {}
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self) -> tuple[HostReport, ...]:
        for place in range(len(self._jobs)):
            self._waiting.put(place)
        each(range(min(self._pace.at_once, len(self._jobs))), lambda _: self._take())
        return tuple(self._reports[place] for place in range(len(self._jobs)))

    def _take(self) -> None:
        while True:
            try:
                place = self._waiting.get_nowait()
            except queue.Empty:
                return
            report = self._one(self._jobs[place])
            self._reports[place] = report
            if report.exit_code != ExitCode.DONE and self._failed is None:
                self._failed = report.host

    def _one(self, job: Job) -> HostReport:
        reason = self._why_not()
        if reason is not None:
            return HostReport(job.host.name, started=False, error=reason)
        begun = replace(job, stop=self._stop.within(self._pace.timeout_s))
        return _supervised(begun, self._work, self._pace.grace_s)

    def _why_not(self) -> RigupError | None:
        if self._stop.is_asked:
            return self._stop.reason()
        if self._pace.fail_fast and self._failed is not None:
            return RigupError(
                f"not started, because of {self._failed} (--fail-fast)",
                remedy="provision again",
            )
        return None


def _supervised(job: Job, work: Callable[[Job], HostReport], grace_s: float) -> HostReport:
    """The host's report when its work ends; or as it stands, when it was to stop and something
    on the host takes longer than the grace: that is left alone to finish."""
    started = time.monotonic()
    reports: list[HostReport] = []
    thread = threading.Thread(target=lambda: reports.append(work(job)), daemon=True)
    thread.start()
    while thread.is_alive() and not job.stop.is_asked:
        thread.join(POLL_S)
    thread.join(grace_s)
    if reports:
        return reports[0]
    return job.standing.report(job.host.name, _left_alone(job), time.monotonic() - started)


def _left_alone(job: Job) -> RigupError:
    reason = job.stop.reason()
    begun = job.standing.begun
    if begun:
        reason.message += f"; still running on the host, which finishes it: {begun[-1]}"
    return reason
