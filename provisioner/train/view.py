"""A job before and when it is sent, for people and as JSON."""

from __future__ import annotations

import shlex

from provisioner import show, show_code
from provisioner.sync import CodeTree
from provisioner.text import one_line
from provisioner.train.placement import Choice
from provisioner.train.submission import Placement, missing_code
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
    missing = missing_code(place.client, tree)
    if as_json:
        told = {**show_code.plain(tree), "files_to_send": len(missing)}
        words = list(place.command)
        return show.as_json({**plan, "command": words, "image_plan": arrives, "code": told})
    shown = {"command": shlex.join(place.command), **plan}
    lines = [f"{name:<9}  {value}" for name, value in shown.items() if value != ""]
    lines += arrives
    code = [show_code.summary(tree), show_code.travels(tree, missing), show_code.listing(tree)]
    return "\n".join([*map(one_line, lines), *code])


def started(place: Placement, record: JobRecord, *, follows: bool) -> str:
    """What became of it at once, and what to type next unless its log ``follows``."""
    state = record.state
    if state == QUEUED and record.waiting_for:
        state += f" ({show.waiting(record.waiting_for)})"
    text = f"{record.spec.runtime} job {state} on {place.host.name}"
    hint = "" if follows else f"; follow it: invoke logs {record.job_id} --follow"
    return one_line(text + hint)


def _gpus(choice: Choice) -> str:
    if choice.indices:
        return "GPU " + ", ".join(map(str, choice.indices))
    return str(choice.gpus or "none")
