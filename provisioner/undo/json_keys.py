"""Taking merged keys out of a JSON object again: only what still is as it was merged. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any


def take_back(content: dict[str, Any], detail: str) -> Iterator[str]:
    """Changes ``content``; yields what stays and why. ``detail`` is a json-keys trace's: a list of
    ``{"path": […], "value": …}``, with ``previous`` where a list was there before."""
    try:
        entries = [_checked(entry) for entry in json.loads(detail)]
    except (ValueError, LookupError, TypeError, RecursionError):
        yield "what was merged into it was not recorded well"
        return
    for path, value, previous in reversed(entries):
        if not _take_one(content, path, value, previous):
            yield f"{'.'.join(path)} was changed since"


def _checked(entry: Any) -> tuple[list[str], Any, Any]:
    path = entry["path"]
    if not path or not all(isinstance(name, str) for name in path):
        raise ValueError("no path")
    return list(path), entry["value"], entry.get("previous")


def _take_one(content: dict[str, Any], path: Sequence[str], value: Any, previous: Any) -> bool:
    """False where something else stands there now."""
    places: list[dict[str, Any]] = [content]
    for name in path[:-1]:
        below = places[-1].get(name)
        if not isinstance(below, dict):
            return below is None
        places.append(below)
    last = places[-1]
    if path[-1] not in last:
        return True
    found = last[path[-1]]
    if isinstance(value, list) and isinstance(found, list):
        old = previous if isinstance(previous, list) else []
        last[path[-1]] = [item for item in found if item not in value or item in old]
        gone = not last[path[-1]] and not isinstance(previous, list)
    elif found == value:
        gone = True
    else:
        return False
    if gone:
        del last[path[-1]]
        _prune(places, path)
    return True


def _prune(places: Sequence[dict[str, Any]], path: Sequence[str]) -> None:
    """Objects that only held what is gone go too."""
    for depth in range(len(places) - 1, 0, -1):
        if places[depth]:
            return
        del places[depth - 1][path[depth - 1]]
