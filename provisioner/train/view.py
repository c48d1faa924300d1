"""A job before and when it is sent, for people and as JSON."""

from __future__ import annotations

import shlex

from provisioner import show, show_code
from provisioner.sync import CodeTree
from provisioner.text import one_line
from provisioner.train.placement import Choice
from provisioner.train.submission import Placement
from remote_agent.protocol.job import QUEUED, JobRecord


def dry_run(place: Placement, tree: CodeTree, *, as_json: bool) -> str:
    """Host, image, GPUs, command and code of a job that is not sent."""
    request, supply = place.request, place.supply
    plan = {
        "host": place.host.name,
        "why": place.choice.reason,
        "directory": request.script.directory,
        "gpus": _gpus(place.choice),
        "runtime": place.runtime,
        "image": supply.image if supply else "",
    }
    arrives = list(supply.said) if supply else []
    if as_json:
        code = show_code.plain(tree)
        words = list(place.command)
        return show.as_json({**plan, "command": words, "image_plan": arrives, "code": code})
    shown = {"command": shlex.join(place.command), **plan}
    lines = [f"{name:<9}  {value}" for name, value in shown.items() if value != ""]
    lines += arrives
    return "\n".join([*map(one_line, lines), show_code.summary(tree), show_code.listing(tree)])


def started(place: Placement, record: JobRecord) -> str:
    """What became of it at once, and what to type next."""
    state = record.state
    if state == QUEUED and record.waiting_for:
        state += f" ({show.waiting(record.waiting_for)})"
    return one_line(
        f"{record.spec.runtime} job {state} on {place.host.name}; "
        f"follow it: invoke logs {record.job_id} --follow"
    )


def _gpus(choice: Choice) -> str:
    if choice.indices:
        return ", ".join(map(str, choice.indices))
    return str(choice.gpus or "none")
