"""The jobs table."""

from __future__ import annotations

from remote_agent.protocol.job import (
    DAMAGED,
    FAILED,
    LOST,
    QUEUED,
    RUNNING,
    STARTING,
    STOPPED,
    SUCCEEDED,
    JobRecord,
)
from tui.log_follower import JobKey
from tui.rows import Column, Layout, Row, Span, arrange
from tui.state import FleetState, HostState
from tui.text import DASH, clean, duration, fit_middle, moment, number
from tui.views.fleet import Clock

MARKS = {
    QUEUED: ("\u25cb", "dim"),
    STARTING: ("\u25d0", "accent"),
    RUNNING: ("\u25cf", "accent"),
    SUCCEEDED: ("\u2713", "good"),
    FAILED: ("\u2717", "bad"),
    STOPPED: ("\u25a0", "dim"),
    LOST: ("?", "warn"),
    DAMAGED: ("!", "bad"),
}
UNKNOWN = "unknown"
MOST_WHY = 60


def job_layout(state: FleetState, width: int) -> Layout:
    """Columns as wide as what is in them, where there is room."""
    pairs = state.all_jobs()
    longest_id = max([len(job.job_id) for _, job in pairs] + [8])
    longest_name = max([len(job.spec.name) for _, job in pairs] + [12])
    longest_host = max([len(name) for name in state.hosts] + [6])
    longest_why = max([len(_why(job, job_state(host, job))[0]) for host, job in pairs] + [10])
    longest_why = min(longest_why, MOST_WHY)
    columns = (
        Column("state", "STATE", 11, 11),
        Column("id", "ID", 10, min(longest_id, 40)),
        Column("name", "NAME", 12, min(longest_name, 28), turn=0),
        Column("host", "HOST", 6, min(longest_host, 20)),
        Column("gpus", "GPUS", 5, 9, rank=2),
        Column("started", "START", 6, 6, rank=1),
        Column("duration", "TIME", 6, 6, right=True),
        Column("why", "WHY", 10, longest_why, turn=-1),
    )
    return arrange(columns, width)


def job_rows(state: FleetState, clock: Clock, width: int) -> list[Row]:
    layout = job_layout(state, width)
    return [_row(host, job, clock, layout) for host, job in state.all_jobs()]


def job_state(host: HostState, job: JobRecord) -> str:
    """An ended job stays ended; what another does on a host that is away is unknown."""
    return job.state if host.is_online or job.is_final else UNKNOWN


def lasted(host: HostState, job: JobRecord, clock: Clock) -> float | None:
    """Seconds, by the host's own clock."""
    began, ended = number(job.started_at), number(job.ended_at)
    if began is None or job_state(host, job) == UNKNOWN:
        return None
    return (clock.wall + host.clock_skew if ended is None else ended) - began


def started(host: HostState, job: JobRecord, clock: Clock) -> str:
    """By our clock."""
    began = number(job.started_at)
    return DASH if began is None else moment(began - host.clock_skew, clock.wall)


def _row(host: HostState, job: JobRecord, clock: Clock, layout: Layout) -> Row:
    known = job_state(host, job)
    mark, role = MARKS.get(known, ("?", "dim"))
    cells: dict[str, list[Span]] = {
        "state": [(f"{mark} ", role), (clean(known), role)],
        "id": [(fit_middle(clean(job.job_id), layout.width("id")), "dim")],
        "name": [(clean(job.spec.name) or DASH, "strong")],
        "host": [(clean(host.name), "text")],
        "gpus": [_gpus(job)],
        "started": [(started(host, job, clock), "text")],
        "duration": [(duration(lasted(host, job, clock)), "text")],
        "why": [_why(job, known)],
    }
    return Row(JobKey(host.name, job.job_id), layout.spans(cells))


def _gpus(job: JobRecord) -> Span:
    if job.gpu_ids:
        return ",".join(str(index) for index in job.gpu_ids), "text"
    wanted = number(job.spec.gpus)
    return (f"0/{wanted:.0f}", "dim") if wanted and not job.is_final else (DASH, "dim")


def _why(job: JobRecord, known: str) -> Span:
    if known == UNKNOWN:
        return "host offline", "dim"
    if job.verdict is None:
        return clean(job.waiting_for) if job.state == QUEUED else "", "dim"
    cause = clean(job.verdict.cause)
    if cause == "exit-code" and job.verdict.exit_code is not None:
        cause = f"exit code {job.verdict.exit_code}"
    return cause.replace("-", " "), "dim" if job.state in (SUCCEEDED, STOPPED) else "bad"
