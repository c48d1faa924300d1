"""Everything that is known about one job, host or GPU."""

from __future__ import annotations

import shlex
from collections.abc import Hashable

from remote_agent.protocol.job import QUEUED, JobRecord, Verdict
from remote_agent.protocol.sample import GpuSample
from tui.log_follower import JobKey
from tui.rows import Span
from tui.state import FleetState, GpuHistory, HostState
from tui.text import (
    DASH,
    celsius,
    clean,
    clean_lines,
    duration,
    memory,
    number,
    percent,
    size,
    sparkline,
    watts,
)
from tui.views.fleet import Clock, GpuKey, HostKey
from tui.views.jobs import MARKS, job_state, lasted, started

Lines = list[list[Span]]
GRAPH = 60
LABEL = 12


def describe(state: FleetState, key: Hashable | None, clock: Clock) -> tuple[str, Lines] | None:
    """Title and lines; None where there is nothing (any more) to describe."""
    if isinstance(key, JobKey):
        host, job = state.hosts.get(key.host), state.job(key.host, key.job_id)
        return _job(host, job, clock) if host and job else None
    if isinstance(key, GpuKey):
        host = state.hosts.get(key.host)
        return _gpu(host, key.index) if host else None
    if isinstance(key, HostKey):
        host = state.hosts.get(key.host)
        return _host(host, clock) if host else None
    return None


def _job(host: HostState, job: JobRecord, clock: Clock) -> tuple[str, Lines]:
    spec, known = job.spec, job_state(host, job)
    gpus = ", ".join(str(index) for index in job.gpu_ids) or f"{spec.gpus} asked for"
    lines: Lines = [
        _line("state", known, MARKS.get(known, ("", "text"))[1]),
        *_verdict(job.verdict),
        *_block("waits for", job.waiting_for if job.state == QUEUED else "", "text"),
        _line("id", job.job_id),
        _line("host", host.name),
        _line("command", shlex.join(str(word) for word in spec.argv)),
        _line("runtime", f"{spec.runtime} {spec.image or ''}"),
        _line("gpus", gpus),
        _line("started", started(host, job, clock)),
        _line("time", duration(lasted(host, job, clock))),
        _line("log", size(job.log_bytes)),
        _line("code", spec.revision or spec.snapshot or DASH),
        _line("by", spec.created_by or DASH),
    ]
    if spec.env:
        lines.append(_line("environment", ", ".join(sorted(spec.env)) + "  (names only)"))
    return f"Job {clean(spec.name) or job.job_id}", lines


def _verdict(verdict: Verdict | None) -> Lines:
    if verdict is None:
        return []
    lines = [_line("why", verdict.cause.replace("-", " "), "strong")]
    if verdict.exit_code is not None:
        lines.append(_line("exit code", str(verdict.exit_code)))
    if verdict.signal:
        lines.append(_line("signal", verdict.signal))
    lines += _block("evidence", verdict.evidence, "text")
    return lines + _block("try", verdict.hint, "accent")


def _host(host: HostState, clock: Clock) -> tuple[str, Lines]:
    lines: Lines = [_line("link", host.link.value, "good" if host.is_online else "warn")]
    lines += _block("reason", host.reason, "text") + _block("try", host.remedy, "accent")
    if host.sample is not None:
        machine = host.sample.host
        age = None if host.sampled_at is None else clock.now - host.sampled_at
        load = number(machine.load1)
        lines += [
            _line("driver", host.sample.driver_version or DASH),
            _line("cpu", f"{percent(machine.cpu)} of {machine.cores or DASH} cores"),
            _line("load", DASH if load is None else f"{load:.2f}"),
            _line("memory", memory(machine.memory_used, machine.memory_total)),
            _line("disk", memory(machine.disk_used, machine.disk_total)),
            _line("up", duration(machine.uptime_s)),
            _line("sample", f"{duration(age)} old"),
            _line("clock", f"{host.clock_skew:+.1f} s from ours"),
        ]
        lines += _block("gpus", host.sample.gpu_error or "", "warn")
    return f"Host {clean(host.name)}", lines


def _gpu(host: HostState, index: int) -> tuple[str, Lines] | None:
    gpus = host.sample.gpus if host.sample else ()
    gpu = next((each for each in gpus if each.index == index), None)
    if gpu is None:
        return None
    history = host.history.get(index, GpuHistory())
    lines: Lines = [
        _line("name", gpu.name),
        _line("uuid", gpu.uuid),
        *([_line("", "SIMULATED", "sim")] if gpu.simulated else []),
        *_block("error", gpu.error or "", "bad"),
        *_graphs(gpu, history),
        _line("memory", memory(gpu.memory_used, gpu.memory_total)),
        _line("temperature", celsius(gpu.temperature)),
        _line("fan", percent(gpu.fan)),
        _line("sm clock", _with_unit(gpu.sm_clock, " MHz")),
        _line("p-state", _with_unit(gpu.pstate, "", "P")),
        _line("throttled", ", ".join(gpu.throttle_reasons) or "no"),
        _line("ecc errors", _with_unit(gpu.ecc_uncorrected, " uncorrected")),
        _line("mig", _switch(gpu.mig_enabled)),
        _line("job", gpu.job_id or DASH),
    ]
    return f"GPU {index} of {clean(host.name)}", lines + _processes(gpu)


def _graphs(gpu: GpuSample, history: GpuHistory) -> Lines:
    power = [value for value in history.power if value is not None]
    top = number(gpu.power_limit) or max([1.0, *power])
    return [
        _line("power", watts(gpu.power, gpu.power_limit)),
        _graph(history.power, top),
        _line("busy", percent(gpu.utilization)),
        _graph(history.utilization, 100.0),
    ]


def _graph(values: tuple[float | None, ...], top: float) -> list[Span]:
    return [(" " * (LABEL + 2), "text"), (sparkline(values, top, GRAPH).lstrip(), "bar")]


def _processes(gpu: GpuSample) -> Lines:
    lines: Lines = []
    for each in gpu.processes:
        text = f"{each.pid}  {each.user or DASH}  {size(each.memory_bytes)}  {each.name or DASH}"
        lines.append(_line("" if lines else "processes", text))
    return lines


def _switch(value: bool | None) -> str:
    return DASH if value is None else "on" if value else "off"


def _with_unit(value: object, unit: str, before: str = "") -> str:
    known = number(value)
    return DASH if known is None else f"{before}{known:.0f}{unit}"


def _line(label: str, value: str, role: str = "text") -> list[Span]:
    return [(f"  {label:<{LABEL}}", "dim"), (clean(value), role)]


def _block(label: str, value: str, role: str) -> Lines:
    """A value of several lines; nothing where it is empty."""
    lines = clean_lines(value)
    return [_line("" if index else label, text, role) for index, text in enumerate(lines)]
