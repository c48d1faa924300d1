"""Merging keys into /etc/docker/daemon.json: what is there stays. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATH = "/etc/docker/daemon.json"


@dataclass(frozen=True)
class Wish:
    """A value that shall stand at ``path``: in a list beside what is there, else only where
    nothing is there yet."""

    path: tuple[str, ...]
    value: Any

    @property
    def key(self) -> str:
        return ".".join(self.path)


class KeyConflict(ValueError):
    """``key`` holds something that a wished one cannot stand in or beside."""

    def __init__(self, key: str, found: object) -> None:
        super().__init__(f"{key} is {json.dumps(found)[:80]}")
        self.key = key


@dataclass(frozen=True)
class Merge:
    """``content`` is the whole new file's; ``added`` are the wishes that were not yet granted."""

    content: Mapping[str, Any]
    added: tuple[Wish, ...]
    before: Mapping[str, Any]

    @property
    def text(self) -> str:
        return json.dumps(self.content, indent=4, ensure_ascii=False) + "\n"

    @property
    def trace(self) -> str:
        """What was merged, so that exactly that can be taken back: a JSON list of ``{"path":
        ["log-opts", "max-size"], "value": "100m"}``, with ``previous`` where a list was there."""
        return json.dumps([_entry(wish, self.before) for wish in self.added], sort_keys=True)


def merge(present: Mapping[str, Any], wishes: Sequence[Wish]) -> Merge:
    """``present`` with what it lacks, its own order and values untouched. Raises KeyConflict."""
    content = copy.deepcopy(dict(present))
    added = tuple(wish for wish in wishes if _grant(content, wish))
    return Merge(content, added, present)


def value_at(content: Mapping[str, Any], path: Sequence[str]) -> Any:
    """None where there is nothing. Raises KeyConflict where something else than objects leads
    there."""
    found: Any = content
    for depth, name in enumerate(path):
        if not isinstance(found, Mapping):
            raise KeyConflict(".".join(path[:depth]), found)
        found = found.get(name)
        if found is None:
            return None
    return found


def _grant(content: dict[str, Any], wish: Wish) -> bool:
    found = value_at(content, wish.path)
    value = wish.value
    if isinstance(value, list) and found is not None:
        if not isinstance(found, list):
            raise KeyConflict(wish.key, found)
        missing = [item for item in value if item not in found]
        if not missing:
            return False
        value = [*found, *missing]
    elif found is not None:
        return False
    place = content
    for name in wish.path[:-1]:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
    place[wish.path[-1]] = copy.deepcopy(value)
    return True


def _entry(wish: Wish, before: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": list(wish.path), "value": wish.value}
    previous = value_at(before, wish.path)
    return entry if previous is None else {**entry, "previous": previous}
