"""What an action leaves on a host, so that it can be recorded before and taken back later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "package",  # name: a package that was not installed before
    "file",  # name: a path that is wholly rigup's
    "directory",  # name: a path; removed only when empty
    "json-keys",  # name: a path; detail: JSON of the keys that were merged in, old values beside
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
