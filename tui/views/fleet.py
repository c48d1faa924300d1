"""The fleet table: a line per host, a line per GPU."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from rich.cells import cell_len

from remote_agent.protocol.job import QUEUED, RUNNING, STARTING
from remote_agent.protocol.sample import GpuSample, HostSample
from tui.rows import Column, Layout, Row, Span, align_ends, arrange
from tui.state import FleetState, HostState, Link
from tui.text import (
    DASH,
    bar,
    celsius,
    clean,
    duration,
    fit,
    fraction,
    memory,
    number,
    percent,
    plural,
    sparkline,
    watts,
)

HOT_C, TOO_HOT_C = 83, 90
"""Where boards begin to slow down, and where they must (`nvidia-smi -q -d TEMPERATURE`)."""

REASON_LINES = 2
SIMULATED = " SIMULATED"
TREND_FROM = 130
TREND = Column("trend", "POWER OVER TIME", 20, 30, rank=4, right=True)
STALE_AFTER = 3.0
"""Sample ages are named from this many intervals on."""


@dataclass(frozen=True)
class HostKey:
    host: str


@dataclass(frozen=True)
class GpuKey:
    host: str
    index: int


@dataclass(frozen=True)
class Clock:
    """``now``: local monotonic seconds; ``wall``: since the epoch; ``interval_s`` of samples."""

    now: float
    wall: float
    interval_s: float = 1.0


def fleet_layout(state: FleetState, width: int) -> Layout:
    """Columns for what is in them; bars where there is room."""
    longest_name = max([len(_short_name(gpu)) for gpu in state.gpus()] + [0])
    longest_procs = max([len(_processes(gpu)[0]) for gpu in state.gpus()] + [7])
    longest_job = max([len(job.spec.name) for _, job in state.all_jobs()] + [10])
    columns = (
        Column("name", "GPU", 22, min(longest_name, 40), turn=0),
        Column("util", "UTIL", 5, 18, right=True),
        Column("memory", "MEMORY", 10, 26, right=True),
        Column("power", "POWER", 8, 11, rank=1, right=True),
        *([TREND] if width >= TREND_FROM else []),
        Column("temp", "TEMP", 5, 5, rank=2, right=True),
        Column("procs", "PROCS", 7, min(longest_procs, 18), rank=3, turn=0),
        Column("job", "JOB", 10, min(longest_job, 40), turn=0),
    )
    return arrange(columns, width)


def fleet_rows(state: FleetState, clock: Clock, width: int) -> list[Row]:
    layout = fleet_layout(state, width)
    rows: list[Row] = []
    for host in state.hosts.values():
        rows += _host_rows(host, clock, layout, width)
    return rows


def summary(state: FleetState, room: int) -> list[Span]:
    """The counts of the header: as many as fit into ``room`` cells, at least the hosts."""
    hosts, running = len(state.hosts), state.count_jobs(RUNNING, STARTING)
    queued, gpus = state.count_jobs(QUEUED), state.gpus()
    used = sum(bool(gpu.job_id or gpu.processes) for gpu in gpus)
    all_up = state.online == hosts
    spans: list[Span] = [
        (f"{state.online} of {plural(hosts, 'host')}", "text" if all_up else "warn")
    ]
    counts = [f"{plural(running, 'job')} running" + (f", {queued} queued" if queued else "")]
    if gpus:
        counts.append(f"{used} of {plural(len(gpus), 'GPU')} in use")
    for count in counts:
        longer: list[Span] = [*spans, ("  \u00b7  ", "dim"), (count, "text")]
        if sum(cell_len(text) for text, _ in longer) > room:
            break
        spans = longer
    return spans


def _host_rows(host: HostState, clock: Clock, layout: Layout, width: int) -> list[Row]:
    key = HostKey(host.name)
    if host.link is Link.OFFLINE:
        return _offline_rows(host, clock, width)
    if host.link is Link.CONNECTING:
        return [Row(key, (*_host_name(host, "\u25cb", "dim"), ("connecting\u2026", "dim")))]
    if host.sample is None:
        return [Row(key, (*_host_name(host, "\u25cf", "good"), ("waiting for a sample", "dim")))]
    left = [*_host_name(host, "\u25cf", "good"), *_host_figures(host, width)]
    rows = [Row(key, align_ends(left, [*_age(host, clock), (" ", "text")], width))]
    return rows + [_gpu_row(host, gpu, layout) for gpu in host.sample.gpus] + _no_gpus(host)


def _host_name(host: HostState, dot: str, role: str) -> list[Span]:
    return [(" ", "text"), (dot, role), (f" {clean(host.name)}  ", "strong")]


def _host_figures(host: HostState, width: int) -> list[Span]:
    sample = host.sample
    machine = sample.host if sample else HostSample()
    figures = [
        ("cpu", percent(machine.cpu)),
        ("ram", memory(machine.memory_used, machine.memory_total)),
        ("disk", _share(machine.disk_used, machine.disk_total)),
    ]
    if width >= 110:
        load = number(machine.load1)
        figures.append(("load", DASH if load is None else f"{load:.1f}"))
        figures.append(("up", duration(machine.uptime_s)))
    if width >= 100 and sample and sample.driver_version:
        figures.append(("driver", clean(sample.driver_version, 20)))
    spans: list[Span] = []
    for label, value in figures:
        spans += [(f"{label} ", "dim"), (f"{value}   ", "dim" if value == DASH else "text")]
    return spans


def _share(part: object, whole: object) -> str:
    share = fraction(part, whole)
    return DASH if share is None else f"{share:.0%}"


def _age(host: HostState, clock: Clock) -> list[Span]:
    if host.sampled_at is None:
        return []
    age = max(0.0, clock.now - host.sampled_at)
    if age < STALE_AFTER * clock.interval_s:
        return [("  now", "dim")]
    return [(f"  {duration(age)} old", "warn")]


def _no_gpus(host: HostState) -> list[Row]:
    sample = host.sample
    if sample is None or sample.gpus:
        return []
    if sample.gpu_error:
        return [Row(None, (("   no GPU figures: ", "warn"), (clean(sample.gpu_error), "text")))]
    return [Row(None, (("   no NVIDIA GPU", "dim"),))]


def _offline_rows(host: HostState, clock: Clock, width: int) -> list[Row]:
    head: list[Span] = [*_host_name(host, "\u25cb", "bad"), ("offline  ", "bad")]
    waiting = "" if host.retry_at is None else _retry(host.retry_at - clock.now)
    retry: list[Span] = [(f"  {waiting or 'trying again'} ", "dim")]
    reason = clean(host.reason)
    room = width - sum(cell_len(text) for text, _ in (*head, *retry))
    if cell_len(reason) <= room:
        head.append((reason, "text"))
        reason = ""
    rows = [Row(HostKey(host.name), align_ends(head, retry, width))]
    rows += _wrapped(reason, "   ", "text", width)
    return rows + _wrapped(f"try: {clean(host.remedy)}" * bool(host.remedy), "   ", "dim", width)


def _retry(seconds: float) -> str:
    return f"next try in {duration(seconds)}" if seconds >= 1 else ""


def _wrapped(text: str, indent: str, role: str, width: int) -> list[Row]:
    lines = textwrap.wrap(
        text, max(20, width - 2 - len(indent)), max_lines=REASON_LINES, placeholder=" \u2026"
    )
    return [Row(None, ((f"{indent}{line}", role),)) for line in lines]


def _gpu_row(host: HostState, gpu: GpuSample, layout: Layout) -> Row:
    key = GpuKey(host.name, gpu.index)
    name = _gpu_name(gpu, layout.width("name"))
    if gpu.error:
        error = layout.spans({"name": name})[: len(name) + 1]
        return Row(key, (*error, ("  ", "text"), (clean(gpu.error), "bad")))
    cells = {
        "name": name,
        "util": _util(gpu, layout.width("util")),
        "memory": _memory(gpu, layout.width("memory")),
        "power": [_value(_tight(watts(gpu.power, gpu.power_limit), layout.width("power")))],
        "trend": [_trend(host, gpu, layout.width("trend"))],
        "temp": [(celsius(gpu.temperature), _heat(gpu.temperature))],
        "procs": [_processes(gpu)],
        "job": [_job(host, gpu)],
    }
    return Row(key, layout.spans(cells))


def _gpu_name(gpu: GpuSample, width: int) -> list[Span]:
    tag = SIMULATED if gpu.simulated else ""
    named = _short_name(gpu).removesuffix(tag)
    return [(fit(named, width - len(tag)), "text"), (tag, "sim")]


def _short_name(gpu: GpuSample) -> str:
    name = clean(gpu.name, 60).removeprefix("NVIDIA ").removeprefix("GeForce ")
    return f"  {gpu.index} {name}{SIMULATED if gpu.simulated else ''}"


def _util(gpu: GpuSample, width: int) -> list[Span]:
    share = fraction(gpu.utilization, 100)
    value = _value(percent(gpu.utilization).rjust(5))
    return [*_bar(share, width - 6), value]


def _memory(gpu: GpuSample, width: int) -> list[Span]:
    text = memory(gpu.memory_used, gpu.memory_total)
    share = fraction(gpu.memory_used, gpu.memory_total)
    return [*_bar(share, width - 14), _value(_tight(text, width).rjust(min(width, 13)))]


def _bar(share: float | None, width: int) -> list[Span]:
    if width < 4:
        return []
    filled = bar(share, width)
    track = " " if share is None else "\u2500"
    return [(filled, "bar"), (track * (width - len(filled)), "track"), (" ", "text")]


def _tight(text: str, width: int) -> str:
    """The same figures without the spaces around the unit, where there is no room for them."""
    return text if len(text) <= width else text.replace(" GiB", "G").replace(" W", "W")


def _value(text: str) -> Span:
    return text, "dim" if text.strip() == DASH else "text"


def _trend(host: HostState, gpu: GpuSample, width: int) -> Span:
    """Power over the last samples: utilisation reads 100 % even while a job waits for I/O."""
    limit = number(gpu.power_limit)
    history = host.history.get(gpu.index)
    if limit is None or history is None:
        return "", "dim"
    return sparkline(history.power, limit, width), "trend"


def _heat(temperature: object) -> str:
    known = number(temperature)
    if known is None:
        return "dim"
    return "bad" if known >= TOO_HOT_C else "warn" if known >= HOT_C else "text"


def _processes(gpu: GpuSample) -> Span:
    users = sorted({clean(each.user, 32) for each in gpu.processes if each.user})
    if not gpu.processes:
        return "0", "dim"
    return f"{len(gpu.processes)} {','.join(users)}".rstrip(), "text"


def _job(host: HostState, gpu: GpuSample) -> Span:
    if not gpu.job_id:
        return DASH, "dim"
    job = host.jobs.get(gpu.job_id)
    return clean(job.spec.name if job and job.spec.name else gpu.job_id), "accent"
