"""A table with a cursor that paints only what changed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import actions
from tui.rows import Row, Span
from tui.widgets.paint import COMPONENT_CLASSES, paint


class RowList(ScrollView, can_focus=True):
    """Rows under a header line that stays. The cursor stays on its row's key when rows move."""

    COMPONENT_CLASSES = COMPONENT_CLASSES | {"rows--cursor", "rows--cursor-blurred"}
    BINDINGS = actions.bindings(actions.LIST)

    cursor: reactive[int] = reactive(0, repaint=False, init=False)

    class Highlighted(Message):
        """The cursor is on another row. ``by_user`` is False when rows changed under it."""

        def __init__(self, rows: RowList, key: Hashable, by_user: bool) -> None:
            super().__init__()
            self.rows, self.key, self.by_user = rows, key, by_user

        @property
        def control(self) -> RowList:
            return self.rows

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.rows: Sequence[Row] = ()
        self.empty: Sequence[str] = ()
        self._header: tuple[Span, ...] = ()
        self._key: Hashable | None = None

    @property
    def key(self) -> Hashable | None:
        """The key under the cursor."""
        return self._key

    def show(self, rows: Sequence[Row], header: tuple[Span, ...], empty: Sequence[str]) -> None:
        """Replaces all rows; ``empty`` is said where there are none."""
        before, self.rows = self.rows, rows
        whole = (
            header != self._header or len(before) != len(rows) or tuple(empty) != tuple(self.empty)
        )
        self._header, self.empty = header, tuple(empty)
        if len(before) != len(rows):
            self.virtual_size = Size(0, 1 + max(len(rows), len(self.empty)))
        if whole:
            self.refresh()
        else:
            self._repaint_changed(before)
        self._keep_cursor()

    def select(self, key: Hashable) -> bool:
        """Puts the cursor on a key. False where there is no such row."""
        for index, row in enumerate(self.rows):
            if row.key == key:
                self._move(index, by_user=False)
                return True
        return False

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return paint(self, self._header, width)
        index = y - 1 + self.scroll_offset.y
        if index < len(self.rows):
            return self._paint_row(index, width)
        if not self.rows and index < len(self.empty):
            return paint(self, ((f" {self.empty[index]}", "dim"),), width)
        return paint(self, (), width)

    def action_cursor(self, step: int) -> None:
        self._step(step, abs(step))

    def action_page(self, direction: int) -> None:
        self._step(direction, max(1, self.size.height - 2))

    def action_cursor_first(self) -> None:
        self._step(-1, len(self.rows))

    def action_cursor_last(self) -> None:
        self._step(1, len(self.rows))

    def on_click(self, event: events.Click) -> None:
        index = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and index < len(self.rows) and self.rows[index].key is not None:
            self._move(index, by_user=True)

    def on_focus(self) -> None:
        self._repaint_row(self.cursor)

    def on_blur(self) -> None:
        self._repaint_row(self.cursor)

    def on_resize(self) -> None:
        self._scroll_to_cursor()

    def _paint_row(self, index: int, width: int) -> Strip:
        row = self.rows[index]
        strip = paint(self, row.spans, width)
        if index != self.cursor or row.key is None:
            return strip
        name = "rows--cursor" if self.has_focus else "rows--cursor-blurred"
        ground = self.get_component_rich_style(name, partial=True).bgcolor
        return Strip(Segment.apply_style(strip, post_style=Style(bgcolor=ground)))

    def _repaint_changed(self, before: Sequence[Row]) -> None:
        for index, (old, new) in enumerate(zip(before, self.rows, strict=True)):
            if old != new:
                self._repaint_row(index)

    def _repaint_row(self, index: int) -> None:
        shown = index - self.scroll_offset.y
        if 0 <= shown < self.size.height - 1:
            self.refresh_line(index + 1)

    def _keep_cursor(self) -> None:
        """After new rows: to the same key, else to the nearest row that can be selected."""
        if self.cursor < len(self.rows) and self.rows[self.cursor].key == self._key is not None:
            return
        for index, row in enumerate(self.rows):
            if row.key is not None and row.key == self._key:
                self._move(index, by_user=False)
                return
        nearest = self._selectable(min(self.cursor, max(0, len(self.rows) - 1)), -1, 1)
        self._move(nearest, by_user=False)

    def _selectable(self, start: int, *directions: int) -> int:
        """The first row from ``start`` that can be selected, looking one way, then the other."""
        for direction in directions:
            index = start
            while 0 <= index < len(self.rows):
                if self.rows[index].key is not None:
                    return index
                index += direction
        return 0

    def _step(self, direction: int, count: int) -> None:
        if not self.rows:
            return
        wanted = min(max(0, self.cursor + count * (1 if direction > 0 else -1)), len(self.rows) - 1)
        way = 1 if direction > 0 else -1
        self._move(self._selectable(wanted, way, -way), by_user=True)

    def _move(self, index: int, *, by_user: bool) -> None:
        before, self.cursor = self.cursor, index
        key = self.rows[index].key if index < len(self.rows) else None
        self._repaint_row(before)
        self._repaint_row(index)
        self._scroll_to_cursor()
        if key != self._key:
            self._key = key
            self.post_message(self.Highlighted(self, key, by_user))

    def _scroll_to_cursor(self) -> None:
        room = self.size.height - 1
        if room <= 0:
            return
        top = self.scroll_offset.y
        wanted = min(max(top, self.cursor - room + 1), self.cursor)
        if wanted != top:
            self.scroll_to(y=wanted, animate=False, force=True, immediate=True)
