"""Results as text for people; the same results as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from provisioner.command import MASK
from provisioner.errors import RigupError
from provisioner.text import hanging, one_line, printable
from remote_agent.protocol.job import QUEUED, JobRecord, Verdict

if TYPE_CHECKING:
    from provisioner.containers.engine import ContainerInfo
    from provisioner.jobs import PerHost
    from provisioner.lab import Lab


PREPARATIONS = ("pulling ", "receiving ", "unpacking ", "building ", "preparing ")
"""How the reasons begin of a job whose image is made ready; see remote_agent/image_preparation.py.
"""
SIMULATED = "SIMULATED GPUs: this proves the plumbing, not a GPU"


def error_text(error: RigupError, *, with_host: bool = True) -> str:
    where = f"{error.host}: " if with_host and error.host else ""
    remedy = f"\ntry: {hanging(error.remedy, 5)}" if error.remedy else ""
    return f"{where}{hanging(error.message, 4)}{remedy}"


def error_json(error: RigupError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "kind": type(error).__name__,
        "host": error.host,
        "message": error.message,
        "remedy": error.remedy,
        "exit_code": int(error.exit_code),
    }


def results_json(results: Sequence[PerHost[Any]]) -> list[dict[str, Any]]:
    return [
        {"host": host.name, "result": found, "error": error_json(error)}
        for host, found, error in results
    ]


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_plain)


def job_table(rows: Sequence[tuple[str, JobRecord]]) -> str:
    """A row per (host, job), newest first."""
    if not rows:
        return "no jobs; start one with: invoke train --script finetune_llama.py"
    ordered = sorted(rows, key=lambda row: row[1].created_at, reverse=True)
    cells: list[tuple[str, ...]] = [("JOB", "HOST", "STATE", "GPUS", "STARTED", "TIME", "WHY")]
    cells.extend(_job_cells(host, record) for host, record in ordered)
    return table(cells)


def describe_job(host: str, record: JobRecord) -> str:
    """Everything about one job that helps to understand it."""
    spec, verdict = record.spec, record.verdict
    state = record.state
    if state == QUEUED and record.waiting_for:
        state += f" ({waiting(record.waiting_for)})"
    fields = [
        ("job", record.job_id),
        ("host", host),
        ("state", state),
        ("command", shlex.join(spec.argv)),
        ("runtime", spec.runtime + (f" ({spec.image})" if spec.image else "")),
        ("gpus", ", ".join(map(str, record.gpu_ids)) or ("none" if not spec.gpus else "waiting")),
        ("started", _moment(record.started_at)),
        ("took", _duration(record)),
        ("code", spec.revision or spec.snapshot or "-"),
        ("log", f"{record.log_bytes} bytes"),
    ]
    if verdict is not None:
        fields += [("verdict", why(verdict)), ("evidence", verdict.evidence)]
        fields += [("try", verdict.hint)] if verdict.hint else []
    return "\n".join(f"{name:<9} {hanging(text, 10)}" for name, text in fields)


def describe_end(host: str, record: JobRecord) -> str:
    """How a job ended, in one to three lines."""
    verdict = record.verdict
    lines = [f"{record.job_id} on {host}: {record.state} after {_duration(record)}"]
    if verdict is not None and (verdict.cause != "success" or verdict.evidence):
        lines.append(f"{why(verdict)}: {verdict.evidence}")
        lines += [f"try: {verdict.hint}"] if verdict.hint else []
    return "\n".join(hanging(line, 4) for line in lines)


def waiting(reason: str) -> str:
    """Why a queued job has not started: what it waits for, or what is done for it meanwhile."""
    return reason if reason.startswith(PREPARATIONS) else f"waiting for {reason}"


def waits_for_image(record: JobRecord) -> bool:
    """Is it queued only because its image is not there yet?"""
    return record.state == QUEUED and record.waiting_for.startswith(PREPARATIONS)


def why(verdict: Verdict) -> str:
    """The cause with its number: ``exit-code 3``, ``signal SIGKILL``, ``disk-full``."""
    detail = {"exit-code": verdict.exit_code, "signal": verdict.signal}.get(verdict.cause)
    return verdict.cause if detail is None else f"{verdict.cause} {detail}"


def container_up(alias: str, container: ContainerInfo) -> str:
    state = "started" if container.changed else "already as asked"
    return printable(
        f"{alias}: {state}, image {container.image}, GPUs {container.gpus}, "
        f"port {container.ssh_port} on the host's loopback\ntry: ssh {alias}"
    )


def container_table(rows: Sequence[tuple[str, Sequence[ContainerInfo]]]) -> str:
    """A row per container."""
    cells: list[tuple[str, ...]] = [("SSH", "STATE", "GPUS", "PORT", "IMAGE")]
    for host, containers in rows:
        for info in containers:
            alias, port = f"{host}-{info.name}", str(info.ssh_port)
            cells.append((alias, info.state, info.gpus, port, info.image))
    return table(cells) if len(cells) > 1 else "no containers; start one with: container.up"


def lab(found: Lab) -> str:
    """The practice hosts, a row each."""
    if not found.hosts:
        return "no practice hosts; start some with: lab.up --hosts 2"
    cells: list[tuple[str, ...]] = [("HOST", "DISTRO", "STATE", "SSH", "GPUS")]
    for host in found.hosts:
        place = f"127.0.0.1:{host.port}"
        cells.append((host.name, host.distro, host.state, place, "SIMULATED"))
    return f"{table(cells)}\ninventory: {found.inventory}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns; the last one is not padded."""
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    )


def _job_cells(host: str, record: JobRecord) -> tuple[str, ...]:
    verdict = record.verdict
    reason = "" if verdict is None or verdict.cause == "success" else why(verdict)
    if record.state == QUEUED and record.waiting_for:
        reason = waiting(record.waiting_for)
    gpus = ",".join(map(str, record.gpu_ids)) or (
        str(record.spec.gpus) if record.spec.gpus else "-"
    )
    started = _moment(record.started_at)
    return record.job_id, host, record.state, gpus, started, _duration(record), reason


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _duration(record: JobRecord) -> str:
    if record.started_at is None:
        return "-"
    total = int((record.ended_at or time.time()) - record.started_at)
    hours, rest = divmod(max(total, 0), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _without_secrets(record: JobRecord) -> dict[str, Any]:
    """Environment variables may hold tokens, and a build's arguments a proxy's password: their
    names show, their values never."""
    data = record.to_json()
    data["spec"]["env"] = dict.fromkeys(record.spec.env, MASK)
    if record.spec.image_plan is not None:
        names = record.spec.image_plan.build_args
        data["spec"]["image_plan"]["build_args"] = dict.fromkeys(names, MASK)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, JobRecord):
        return _without_secrets(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
