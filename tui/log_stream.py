"""A log's bytes by offset into a LogBuffer: nothing lost, nothing twice, whatever the pieces."""

from __future__ import annotations

import codecs
import re

from tui.log_buffer import LogBuffer
from tui.text import size as show_size

BACKLOG = 256 * 1024
"""A log opens at its last BACKLOG bytes."""


_LINE_END = re.compile(rb"\r\n|\n|\r")
_CONTINUATION = bytes(range(0x80, 0xC0))


class LogStream:
    """``feed`` takes (offset, data) pieces: known bytes are skipped, a gap is said in the log."""

    def __init__(self, buffer: LogBuffer) -> None:
        self.buffer = buffer
        self.next_offset: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._in_first_line = False

    def feed(self, offset: int, data: bytes, size: int | None = None) -> None:
        """``offset`` is where ``data`` starts in the log, ``size`` the whole log's length."""
        if size is not None and size < (self.next_offset or 0):
            self._begin_anew(size)
            return
        if self.next_offset is None:
            self._open(offset)
        expected = self.next_offset or 0
        if offset > expected:
            self._say_gap(offset - expected)
        data = data[max(0, expected - offset) :]
        self.next_offset = max(expected, offset) + len(data)
        self._write(data)

    def _open(self, offset: int) -> None:
        self.next_offset = offset
        if offset > 0:
            self._in_first_line = True
            self.buffer.note(
                f"\u2500\u2500 opened near the end: {show_size(offset)} before this are not shown"
            )

    def _begin_anew(self, size: int) -> None:
        self._decoder.reset()
        self._in_first_line = False
        self.next_offset = max(0, size - BACKLOG)
        self.buffer.note("\u2500\u2500 the job made its log shorter; this is the new one")

    def _say_gap(self, missing: int) -> None:
        self._decoder.reset()
        self.buffer.note(f"\u2500\u2500 {show_size(missing)} skipped to keep up with the job")

    def _write(self, data: bytes) -> None:
        if self._in_first_line:
            data = self._after_first_line(data)
        self.buffer.write(self._decoder.decode(data))

    def _after_first_line(self, data: bytes) -> bytes:
        """``data`` without its first line, whose beginning is missing."""
        if not data:
            return data
        self._in_first_line = False
        end = _LINE_END.search(data)
        return data[end.end() :] if end else data.lstrip(_CONTINUATION)
