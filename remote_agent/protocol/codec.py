"""Frames on a byte stream: one JSON header line, then exactly ``header["payload"]`` raw bytes.

::

    {"type":"reply","id":7,"ok":true,"result":{…},"payload":5}\\n
    hello

No I/O happens here: bytes go in, frames come out, so that agent, client and tests share it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from remote_agent.protocol.values import ProtocolError, parse_json

MAX_HEADER = 1 << 20
MAX_PAYLOAD = 32 << 20
SNIPPET = 300


@dataclass(frozen=True)
class Frame:
    header: Dict[str, Any]
    payload: bytes = b""


def encode(header: Dict[str, Any], payload: bytes = b"") -> bytes:
    """The bytes of one frame. Raises ProtocolError where the other side would refuse it."""
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(
            "payload of %d bytes is over the limit of %d" % (len(payload), MAX_PAYLOAD)
        )
    full = dict(header, payload=len(payload)) if payload else header
    line = json.dumps(full, separators=(",", ":")).encode("ascii")
    if len(line) >= MAX_HEADER:
        raise ProtocolError("header of %d bytes is over the limit of %d" % (len(line), MAX_HEADER))
    return b"".join((line, b"\n", payload))


class Decoder:
    """Collects bytes and gives back whole frames, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: Optional[Dict[str, Any]] = None
        self._scanned = 0

    def feed(self, data: bytes) -> List[Frame]:
        """Add bytes; return every frame that is now complete. Raises ProtocolError."""
        self._buffer += data
        frames: List[Frame] = []
        while True:
            frame = self._next()
            if frame is None:
                return frames
            frames.append(frame)

    def finish(self) -> None:
        """Call at end of file: raises ProtocolError when it came in the middle of a frame."""
        if self._header is not None or self._buffer:
            raise ProtocolError("the stream ended in the middle of a message")

    def _next(self) -> Optional[Frame]:
        if self._header is None:
            self._header = self._take_header()
            if self._header is None:
                return None
        length = self._header.get("payload", 0)
        if len(self._buffer) < length:
            return None
        payload = bytes(self._buffer[:length])
        del self._buffer[:length]
        header, self._header = self._header, None
        return Frame(header, payload)

    def _take_header(self) -> Optional[Dict[str, Any]]:
        if self._buffer and self._buffer[0] != ord("{"):
            raise ProtocolError(_not_a_message(bytes(self._buffer[: SNIPPET + 1])))
        end = self._buffer.find(b"\n", self._scanned)
        self._scanned = len(self._buffer)
        if end > MAX_HEADER or (end < 0 and len(self._buffer) > MAX_HEADER):
            raise ProtocolError("a message header is longer than %d bytes" % MAX_HEADER)
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        return _parse_header(line)


def _parse_header(line: bytes) -> Dict[str, Any]:
    try:
        header = parse_json(line)
    except ProtocolError:
        raise ProtocolError(_not_a_message(line)) from None
    if not isinstance(header, dict):
        raise ProtocolError(_not_a_message(line))
    length = header.get("payload", 0)
    if type(length) is not int or not 0 <= length <= MAX_PAYLOAD:
        raise ProtocolError("bad payload length %.80r (limit %d)" % (length, MAX_PAYLOAD))
    return header


def _not_a_message(data: bytes) -> str:
    return "expected an agent message, got: %s" % printable(data)


def printable(data: bytes) -> str:
    """Bytes as text that is safe to show: control characters and undecodable bytes escaped."""
    text = data[:SNIPPET].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown + ("…" if len(data) > SNIPPET else "")
