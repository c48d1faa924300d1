"""From records and what is there now to what is removed and what stays. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.journal import Entry
from provisioner.platforms.base import Platform
from provisioner.traces import Trace
from provisioner.undo.deeds import RemoveAgents, RemoveFile, RestoreFile, Tidy
from provisioner.undo.json_keys import take_back
from provisioner.undo.survey import ABSENT, Survey

ORDER = ("unit", "json-keys", "linger", "group-member", "hold", "package", "file", "directory")
"""Services stop before their packages go, sources go after what came from them."""

FOLLOW_UPS = {
    "/etc/systemd/system": Command.of("systemctl", "daemon-reload", sudo=True),
    "/usr/local/share/ca-certificates": Command.of("update-ca-certificates", sudo=True),
    "/etc/pki/ca-trust/source/anchors": Command.of("update-ca-trust", sudo=True),
    "/etc/pki/trust/anchors": Command.of("update-ca-certificates", sudo=True),
}


@dataclass(frozen=True)
class Removal:
    """``stays``: what is not removed although it was recorded, each with its reason.
    ``for_good``: what was done and cannot be taken back."""

    actions: tuple[Action, ...] = ()
    stays: tuple[str, ...] = ()
    for_good: tuple[str, ...] = ()


def plan(entries: Sequence[Entry], survey: Survey, platform: Platform, home: str) -> Removal:
    """For the records of one step, all of them permitted."""
    actions: list[Action] = []
    stays: list[str] = []
    traces = list(dict.fromkeys(entry.trace for entry in reversed(entries)))
    for kind in ORDER:
        there = [one for one in traces if one.kind == kind and survey.state(one) != ABSENT]
        for item in _BY_KIND[kind](there, survey, platform, home) if there else ():
            if isinstance(item, str):
                stays.append(item)
            else:
                actions.append(item)
    for_good = tuple(one.name for one in traces if one.kind == "command")
    return Removal((*actions, *_follow_ups(actions, platform)), tuple(stays), for_good)


def _follow_ups(actions: Sequence[Action], platform: Platform) -> Iterator[Action]:
    """What must hear of it that a file is gone."""
    files = [action.path for action in actions if isinstance(action, RemoveFile)]
    for directory, follow_up in FOLLOW_UPS.items():
        if any(path.startswith(f"{directory}/") for path in files):
            yield Run(follow_up)
    if any(path.startswith("/etc/modprobe.d/") for path in files):
        yield from platform.rebuild_initramfs()


HOMES = ("/home", "/root")
"""Where login users' homes lie; what is in another one's is theirs to remove."""

Found = Iterator[Action | str]


def _units(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    for trace in traces:
        disable = Command.of("systemctl", "disable", "--now", trace.name, sudo=True)
        yield Run(disable, may_fail=True)


def _json_keys(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    """Newest first, so that every key gets the value back that it had at first."""
    for name in dict.fromkeys(trace.name for trace in traces):
        records = [trace for trace in traces if trace.name == name]
        content = survey.json_at(records[0])
        if content is None:
            yield f"{name} holds no JSON object any more"
            continue
        restored = copy.deepcopy(content)
        for record in records:
            yield from (f"{name}: {why}" for why in take_back(restored, record.detail))
        if restored != content:
            yield _rewrite(name, restored)


def _rewrite(name: str, content: dict[str, Any]) -> Action:
    if not content:
        return RemoveFile(name)
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    return RestoreFile(PurePosixPath(name), text)


def _lingering(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    for trace in traces:
        yield Run(Command.of("loginctl", "disable-linger", trace.name, sudo=True))


def _members(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    for trace in traces:
        yield Run(Command.of("gpasswd", "-d", trace.name, trace.detail, sudo=True))


def _holds(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    yield from platform.release(*sorted({trace.name for trace in traces}))


def _packages(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    recorded = {trace.name for trace in traces}
    old = recorded & survey.before
    if old:
        yield f"{_named(old)}: installed before rigup came"
    strangers = {
        name for name in survey.goes - recorded if name in survey.manual or (name in survey.before)
    } | survey.needed_by
    if strangers:
        yield f"{_named(recorded - old)}: needed by {_named(strangers)}"
        return
    brought = survey.brought - survey.orphans - survey.before - survey.manual
    gone = sorted((recorded - old) | (survey.goes - old) | brought)
    if gone:
        yield from platform.remove(*gone)
        if survey.goes:  # apt told
            yield Tidy(tuple(gone))


def _files(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    for name in dict.fromkeys(trace.name for trace in traces):
        marks = {trace.detail for trace in traces if trace.name == name and trace.detail}
        state = survey.state(next(trace for trace in traces if trace.name == name))
        if state == "other" or (marks and not state.startswith("link:") and state not in marks):
            yield f"{name}: changed since"
            continue
        own = PurePosixPath(name).is_relative_to(home)
        yield RemoveFile(name, sudo=not own)


def _agents(traces: list[Trace], survey: Survey, platform: Platform, home: str) -> Found:
    for trace in traces:
        path = PurePosixPath(trace.name)
        others = any(path.is_relative_to(homes) for homes in HOMES)
        if others and not path.is_relative_to(home):
            yield f"{path}: another login user's; uninstall as that user, too"
        else:
            yield RemoveAgents(trace.name)


def _named(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))


_BY_KIND = {
    "unit": _units,
    "json-keys": _json_keys,
    "linger": _lingering,
    "group-member": _members,
    "hold": _holds,
    "package": _packages,
    "file": _files,
    "directory": _agents,
}
