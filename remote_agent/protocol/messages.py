"""What travels in the frames: Hello once, then Requests one way, Replies and Events the other.

``Unavailable`` comes instead of Hello from the shell script that looks for the agent:
``reason`` is ``absent`` (deploy it, then retry) or ``no-python``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Type, Union

from remote_agent.protocol.codec import Frame, encode
from remote_agent.protocol.values import MAX_JSON, ProtocolError, Value, parse_json

PROTOCOL = 1
"""Raised whenever an older peer could misunderstand; the client then redeploys the agent."""


@dataclass(frozen=True)
class Hello(Value):
    """The agent's first message. ``agent`` is the sha256 of its archive (``source`` without)."""

    protocol: int
    agent: str
    boot_id: str
    python: str = ""
    user: str = ""
    state_dir: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Unavailable(Value):
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Request(Value):
    """``id`` is chosen by the client and unique on its connection."""

    id: int
    op: str
    args: Dict[str, Any] = field(default_factory=dict)
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Reply(Value):
    """Answers the Request of the same id: ``result`` when ok, else ``error`` {code, message}."""

    id: int
    ok: bool = True
    result: Dict[str, Any] = field(default_factory=dict)
    error: Optional[Dict[str, str]] = None
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Event(Value):
    """Pushed for the watch that Request ``id`` began. ``kind``: ``sample`` or ``jobs``."""

    id: int
    kind: str
    payload: bytes = field(default=b"", repr=False)


Message = Union[Hello, Unavailable, Request, Reply, Event]

KINDS: Dict[str, Type[Any]] = {
    "hello": Hello,
    "unavailable": Unavailable,
    "request": Request,
    "reply": Reply,
    "event": Event,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


def encode_message(message: Message) -> bytes:
    header = message.to_json()
    payload = header.pop("payload", b"")
    return encode(dict(header, type=_NAMES[type(message)]), payload)


def parse_message(frame: Frame) -> Message:
    """Raises ProtocolError for an unknown type or a missing key."""
    kind = KINDS.get(str(frame.header.get("type")))
    if kind is None:
        raise ProtocolError("unknown message type %.80r" % (frame.header.get("type"),))
    body = dict(frame.header)
    if "payload" in kind.__dataclass_fields__:
        body["payload"] = frame.payload
    message: Message = kind.from_json(body)
    return message


def to_payload(value: Any) -> bytes:
    """JSON of any size, for results that could outgrow the header."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def from_payload(payload: bytes, most: int = MAX_JSON) -> Any:
    """Raises ProtocolError for anything but JSON of up to ``most`` bytes."""
    return parse_json(payload, most)


def rows_from_payload(payload: bytes) -> List[Any]:
    """A JSON list. Raises ProtocolError for anything else."""
    rows = parse_json(payload)
    if not isinstance(rows, list):
        raise ProtocolError("expected a list of rows")
    return rows
