"""Which screen row shows which part of which line: filtering and wrapping, kept incrementally."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

from rich.cells import cell_len, chop_cells

from tui.log_buffer import LogBuffer, plain

Accept = Callable[[str], bool]


class LogLayout:
    """Rows of ``buffer``: all lines, or those that ``accept`` takes; one row per line, or wrapped
    at ``width`` cells. Call ``sync`` after writing to the buffer; one layout per buffer."""

    def __init__(self, buffer: LogBuffer, *, width: int = 0, accept: Accept | None = None) -> None:
        self._buffer = buffer
        self.width = width
        self._accept = accept
        self._first = buffer.first
        self._numbers: list[int] = []
        self._ends: list[int] = []
        self._base = 0
        self._extend(buffer.first)
        buffer.take_changes()

    @property
    def rows(self) -> int:
        if self._is_identity:
            return self._buffer.end - self._buffer.first
        if self.width:
            return (self._ends[-1] - self._base) if self._ends else 0
        return len(self._numbers)

    def sync(self) -> int:
        """Takes in what the buffer did. Returns the number of rows that left at the top."""
        changed = self._buffer.take_changes()
        dropped = self._drop_pruned()
        if not self._is_identity:
            keep = bisect_left(self._numbers, changed)
            del self._numbers[keep:], self._ends[keep:]
            self._extend(changed)
        return dropped

    def locate(self, row: int) -> tuple[int, int]:
        """(line number, part of the line) of a row. Raises IndexError beyond the last row."""
        if row < 0 or row >= self.rows:
            raise IndexError(row)
        if self._is_identity:
            return self._buffer.first + row, 0
        if not self.width:
            return self._numbers[row], 0
        index = bisect_right(self._ends, row + self._base)
        start = self._ends[index - 1] if index else self._base
        return self._numbers[index], row + self._base - start

    def row_of(self, line_number: int) -> int:
        """The first row of a line, or of the next one that is shown."""
        if self._is_identity:
            return max(0, line_number - self._buffer.first)
        index = bisect_left(self._numbers, line_number)
        if not self.width:
            return index
        return (self._ends[index - 1] - self._base) if index else 0

    @property
    def _is_identity(self) -> bool:
        return self._accept is None and not self.width

    def _drop_pruned(self) -> int:
        gone, self._first = self._buffer.first - self._first, self._buffer.first
        if self._is_identity:
            return gone
        count = bisect_left(self._numbers, self._first)
        rows = (self._ends[count - 1] - self._base) if self.width and count else count
        if self.width:
            self._base += rows
        del self._numbers[:count], self._ends[:count]
        return rows

    def _extend(self, start: int) -> None:
        if self._is_identity:
            return
        for line_number in range(max(start, self._buffer.first), self._buffer.end):
            text = plain(self._buffer.line(line_number))
            if self._accept is None or self._accept(text):
                self._append(line_number, text)

    def _append(self, line_number: int, text: str) -> None:
        self._numbers.append(line_number)
        if self.width:
            before = self._ends[-1] if self._ends else self._base
            self._ends.append(before + height(text, self.width))


def height(text: str, width: int) -> int:
    """Rows that ``text`` needs at ``width`` cells; at least one."""
    if len(text) <= width and (text.isascii() or cell_len(text) <= width):
        return 1
    return -(-len(text) // width) if text.isascii() else len(chop_cells(text, width))


def part_of(text: str, width: int, part: int) -> tuple[int, int]:
    """Start and end (characters) of one wrapped row of ``text``."""
    if text.isascii():
        return part * width, min(len(text), (part + 1) * width)
    pieces = chop_cells(text, width)
    start = sum(map(len, pieces[:part]))
    return start, start + (len(pieces[part]) if part < len(pieces) else 0)


def line_filter(query: str) -> Accept | None:
    """Lines that contain ``query``, whatever the case; ``!query`` turns it round."""
    wanted = query.strip().lower()
    inverted = wanted.startswith("!")
    wanted = wanted.removeprefix("!").strip()
    if not wanted:
        return None
    return lambda text: (wanted in text.lower()) is not inverted
