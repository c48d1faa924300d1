"""What an action leaves on a host, so that it can be recorded before and taken back later."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "package",  # name: a package that was not installed before
    "file",  # name: a path that is wholly rigup's; detail: its content (content_mark), if known
    "directory",  # name: a path; removed only when empty
    "json-keys",  # name: a path; detail: what was merged in (daemon_json.Merge.trace)
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
