"""What an action leaves on a host, so that it can be recorded before and taken back later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "package",  # name: a package that was not installed before
    "file",  # name: a path that is wholly rigup's; detail: its content (content_mark), if known
    "directory",  # name: a path; removed only when empty
    "json-keys",  # name: a path; detail: the keys that were merged in (merged_keys)
    "group-member",  # name: a user; detail: the group
    "unit",  # name: a systemd unit that was enabled
    "hold",  # name: a package that was held at its version
    "linger",  # name: a user
    "command",  # name: what was done for good, for people to read; nothing can take it back
]


@dataclass(frozen=True)
class Trace:
    """One thing that rigup put on a host. Data of users is never a trace."""

    kind: Kind
    name: str
    detail: str = ""


def content_mark(content: bytes) -> str:
    """What a file holds, as the detail of its trace: ``sha256:…``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def merged_keys(path: str, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> Trace:
    """``wanted`` was merged into the JSON object at ``path``, which held ``before``: the keys that
    differ, with their old values where they had one."""
    changed = {key: value for key, value in wanted.items() if before.get(key, ...) != value}
    was = {key: before[key] for key in changed if key in before}
    return Trace("json-keys", path, json.dumps({"set": changed, "was": was}, sort_keys=True))
