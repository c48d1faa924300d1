"""A log that follows its end, or holds still while its reader reads."""

from __future__ import annotations

import re
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from tui import actions
from tui.ansi import Sgr
from tui.log_buffer import Line, LogBuffer, plain
from tui.log_layout import LogLayout, line_filter, part_of
from tui.widgets.paint import COMPONENT_CLASSES, on_ground, role_style

_BAD = re.compile(r"\b(?:ERROR|FATAL|CRITICAL|Traceback|[A-Za-z.]*(?:Error|Exception):)")
_WARN = re.compile(r"\b(?:WARN(?:ING)?|[A-Za-z]*Warning:)")
_NOTE = "\u2500\u2500 "
LEVEL_CHARS = 200


class LogView(ScrollView, can_focus=True):
    """Shows a LogBuffer. Call ``flush`` after writing to the buffer, some 10 times a second.

    ``following`` ends when the reader scrolls up and begins again at the end.
    """

    COMPONENT_CLASSES = COMPONENT_CLASSES
    BINDINGS = actions.bindings(actions.LOG)
    ALLOW_SELECT = True

    following: reactive[bool] = reactive(True, repaint=False, init=False)

    class Changed(Message):
        """``following``, the filter or the number of unseen lines changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.buffer = LogBuffer()
        self.wrap = False
        self.query_text = ""
        self._layout = LogLayout(self.buffer)
        self._seen = 0
        self._adjusting = False

    @property
    def rows(self) -> int:
        return self._layout.rows

    @property
    def unseen(self) -> int:
        """Lines that came since following ended."""
        return 0 if self.following else max(0, self.buffer.end - self._seen)

    def open(self, buffer: LogBuffer) -> None:
        """Shows another buffer from its end."""
        self.buffer = buffer
        self.following = True
        self._relayout()

    def set_wrap(self, wrap: bool) -> None:
        self.wrap = wrap
        self._relayout()

    def set_filter(self, query: str) -> None:
        """See ``line_filter``; an empty query shows all lines."""
        if query != self.query_text:
            self.query_text = query
            self._relayout()

    def flush(self) -> None:
        """Shows what was written to the buffer since the last call."""
        dropped = self._layout.sync()
        self._resize(dropped)
        self.refresh()
        self.post_message(self.Changed())

    def action_follow(self) -> None:
        self.following = True
        self._resize(0)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        left, top = self.scroll_offset
        row = top + y
        if row >= self._layout.rows:
            return on_ground(self, Strip.blank(width))
        strip = self._strip(row)
        selection = self.text_selection
        if selection is not None:
            strip = self._select(strip, selection, row)
        strip = on_ground(self, strip.crop_extend(left, left + width, Style.null()))
        return strip.apply_offsets(left, row)

    def visible_text(self) -> str:
        """The rows in sight."""
        top = self.scroll_offset.y
        rows = range(top, min(self._layout.rows, top + self.scrollable_content_region.height))
        return "\n".join(plain(line)[a:b] for line, a, b in map(self._row_line, rows))

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        rows = (self._row_line(row) for row in range(self._layout.rows))
        return selection.extract("\n".join(plain(line)[a:b] for line, a, b in rows)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def on_resize(self) -> None:
        if self.wrap:
            self._relayout()
        else:
            self._resize(0)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._adjusting:
            self.following = new_value >= self.max_scroll_y

    def watch_following(self, following: bool) -> None:
        self._seen = self.buffer.end
        self.post_message(self.Changed())

    def _relayout(self) -> None:
        """Lays all lines out anew; the reader stays at the same line."""
        at = self._top_line()
        width = self.size.width if self.wrap else 0
        self._layout = LogLayout(
            self.buffer, width=max(0, width), accept=line_filter(self.query_text)
        )
        self._resize(0)
        if not self.following:
            self._scroll(self._layout.row_of(at))
        self.refresh()
        self.post_message(self.Changed())

    def _top_line(self) -> int:
        rows = self._layout.rows
        return self._layout.locate(min(self.scroll_offset.y, rows - 1))[0] if rows else 0

    def _resize(self, dropped: int) -> None:
        """Fits the scrolling to the layout: at the end, or still on the same lines."""
        at = self.scroll_offset.y
        width = 0 if self.wrap else self.buffer.width
        self._adjusting = True
        self.virtual_size = Size(width, self._layout.rows)
        self._adjusting = False
        if self.following:
            self._scroll(max(0, self._layout.rows - self.scrollable_content_region.height))
        elif dropped:
            self._scroll(max(0, at - dropped))

    def _scroll(self, row: int) -> None:
        self._adjusting = True
        self.scroll_to(y=row, animate=False, force=True, immediate=True)
        self._adjusting = False

    def _row_line(self, row: int) -> tuple[Line, int, int]:
        """The line of a row, and which of its characters are on it."""
        line_number, part = self._layout.locate(row)
        line = self.buffer.line(line_number)
        if not self.wrap:
            return line, 0, len(plain(line))
        return line, *part_of(plain(line), max(1, self._layout.width), part)

    def _strip(self, row: int) -> Strip:
        line, start, end = self._row_line(row)
        if isinstance(line, str):
            return Strip([Segment(line[start:end], role_style(self, level_of(line)))])
        base = role_style(self, "text")
        bounds = [at for at, _ in line.spans[1:]] + [len(line.text)]
        pieces = (
            (line.text[max(start, at) : min(end, stop)], style)
            for (at, style), stop in zip(line.spans, bounds, strict=True)
        )
        return Strip([Segment(text, base + sgr_style(style)) for text, style in pieces if text])

    def _select(self, strip: Strip, selection: Selection, row: int) -> Strip:
        span = selection.get_span(row)
        if span is None:
            return strip
        start, end = span[0], strip.cell_length if span[1] == -1 else span[1]
        style = self.screen.get_component_rich_style("screen--selection")
        chosen = Segment.apply_style(strip.crop(start, end), post_style=style)
        return Strip([*strip.crop(0, start), *chosen, *strip.crop(end)])


def level_of(line: str) -> str:
    """The role of a line without colours of its own."""
    head = line[:LEVEL_CHARS]
    if head.startswith(_NOTE):
        return "dim"
    if _BAD.search(head):
        return "bad"
    return "warn" if _WARN.search(head) else "text"


@lru_cache(maxsize=1024)
def sgr_style(style: Sgr) -> Style:
    return Style(
        color=style.fg,
        bgcolor=style.bg,
        bold=style.bold or None,
        dim=style.dim or None,
        italic=style.italic or None,
        underline=style.underline or None,
        reverse=style.reverse or None,
        strike=style.strike or None,
    )
