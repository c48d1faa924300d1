"""The newest lines of a log, as a terminal would show them, in bounded memory.

Lines have absolute numbers that never change, so a reader keeps the place when old lines leave.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from tui.ansi import ESCAPE, PARTIAL, PLAIN, STRING_ESCAPE, Sgr, apply_sgr
from tui.text import ELLIPSIS

MAX_LINES = 20_000
MAX_LINE = 8_192
TAB = 8

_REMOVED = re.compile(
    "[\x00-\x06\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029"
    "\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SPECIAL = re.compile("[\r\x1b]")
_TOKEN = re.compile(f"(?P<text>[^\n\r\x1b]+)|\n|\r|{ESCAPE.pattern}")


class Styled(NamedTuple):
    """A line with colours: ``spans`` are (start, style), sorted; the first starts at 0."""

    text: str
    spans: tuple[tuple[int, Sgr], ...]


Line: TypeAlias = "str | Styled"


def plain(line: Line) -> str:
    return line if isinstance(line, str) else line.text


class LogBuffer:
    """Takes decoded text with ``write``; holds the last ``max_lines`` lines.

    A carriage return makes the next text replace the line, so a progress bar is one line; moving
    the cursor up (several bars at once) replaces earlier lines. ``lines[i]`` has the absolute
    number ``first + i``; the last line is the unfinished one and may be empty.
    """

    def __init__(self, max_lines: int = MAX_LINES, max_line: int = MAX_LINE) -> None:
        self.first = 0
        self.lines: list[Line] = [""]
        self.width = 0
        self._max_lines = max_lines
        self._max_line = max_line
        self._changed_from = 0
        self._row = 0
        self._replace = False
        self._style = PLAIN
        self._held = ""

    @property
    def end(self) -> int:
        """One more than the number of the last line that holds anything."""
        return self.first + len(self.lines) - (not plain(self.lines[-1]))

    def take_changes(self) -> int:
        """The lowest line number that changed since the last call (``end`` when none did)."""
        changed, self._changed_from = self._changed_from, self.first + len(self.lines)
        return max(changed, self.first)

    def line(self, line_number: int) -> Line:
        """Raises IndexError for a line that is not kept."""
        index = line_number - self.first
        if index < 0:
            raise IndexError(line_number)
        return self.lines[index]

    def write(self, text: str) -> None:
        """Adds text; any part of it may arrive in any piece."""
        text = self._complete(_REMOVED.sub("", text))
        if not text:
            return
        text = STRING_ESCAPE.sub("", text).replace("\x07", "")
        if self._is_simple(text):
            column = len(plain(self.lines[-1]))
            self._write_lines(_expand_tabs(text, column).split("\n"))
        else:
            self._write_tokens(text)
        self._prune()

    def note(self, text: str) -> None:
        """Adds a line of our own, on a line by itself."""
        self._held, self._style, self._replace = "", PLAIN, False
        self._row = self.first + len(self.lines) - 1
        if plain(self.lines[-1]):
            self._next_line()
        self.write(f"{text}\n")

    def _complete(self, text: str) -> str:
        """``text`` without an unfinished escape at its end, which waits for the next call."""
        text = self._held + text
        partial = PARTIAL.search(text, max(0, len(text) - 4200))
        cut = partial.start() if partial else len(text)
        self._held = text[cut:]
        return text[:cut]

    def _is_simple(self, text: str) -> bool:
        at_end = self._row == self.first + len(self.lines) - 1
        return (
            at_end
            and not self._replace
            and self._style is PLAIN
            and isinstance(self.lines[-1], str)
            and not _SPECIAL.search(text)
        )

    def _write_lines(self, pieces: list[str]) -> None:
        last = len(self.lines) - 1
        pieces[0] = plain(self.lines[last]) + pieces[0]
        longest = max(map(len, pieces))
        if longest > self._max_line:
            pieces = [self._shorten(piece) for piece in pieces]
        self.width = max(self.width, min(longest, self._max_line))
        self.lines[last:] = pieces
        self._changed_from = min(self._changed_from, self.first + last)
        self._row = self.first + len(self.lines) - 1

    def _write_tokens(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            plain_text = token["text"]
            if plain_text is not None:
                self._put(plain_text)
            elif token[0] == "\n":
                self._next_line()
            elif token[0] == "\r":
                self._replace = True
            elif token["final"]:
                self._control(token["params"], token["final"])

    def _put(self, text: str) -> None:
        index = self._row - self.first
        before: Line = "" if self._replace else self.lines[index]
        self._replace = False
        after = self._append(before, _expand_tabs(text, len(plain(before))))
        self.lines[index] = after
        self.width = max(self.width, len(plain(after)))
        self._changed_from = min(self._changed_from, self._row)

    def _append(self, line: Line, text: str) -> Line:
        head = plain(line)
        if len(head) >= self._max_line:
            return line
        joined = self._shorten(head + text)
        if isinstance(line, str) and self._style is PLAIN:
            return joined
        spans = ((0, PLAIN),) if isinstance(line, str) else line.spans
        if spans[-1][1] != self._style:
            spans = (*spans, (len(head), self._style)) if head else ((0, self._style),)
        return Styled(joined, spans)

    def _shorten(self, text: str) -> str:
        return text if len(text) <= self._max_line else text[: self._max_line - 1] + ELLIPSIS

    def _next_line(self) -> None:
        self._row += 1
        if self._row < self.first + len(self.lines):
            self._replace = True
            return
        self._replace = False
        self.lines.append("")
        self._changed_from = min(self._changed_from, self._row)

    def _control(self, params: str, final: str) -> None:
        if final == "m":
            style = apply_sgr(self._style, params)
            self._style = PLAIN if style == PLAIN else style
        elif final == "A":
            up = int(params) if params.isdecimal() and len(params) < 4 else 1
            self._row = max(self.first, self._row - max(1, up))
        elif final == "K" and (self._replace or params == "2"):
            self.lines[self._row - self.first] = ""
            self._changed_from = min(self._changed_from, self._row)

    def _prune(self) -> None:
        """Drops the oldest lines, a tenth at a time so that the cost per line stays small."""
        excess = len(self.lines) - self._max_lines
        if excess <= 0:
            return
        excess = min(len(self.lines) - 1, excess + self._max_lines // 10)
        del self.lines[:excess]
        self.first += excess
        self._row = max(self._row, self.first)


def _expand_tabs(text: str, column: int) -> str:
    """``text``, which begins at ``column``, with spaces for tabs."""
    if "\t" not in text:
        return text
    before = " " * (column % TAB)
    return (before + text).expandtabs(TAB)[len(before) :]
