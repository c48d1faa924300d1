"""One-line widgets: the header, and the title of a panel."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.strip import Strip
from textual.widget import Widget

from tui.rows import Span, align_ends
from tui.widgets.paint import COMPONENT_CLASSES, paint


class Bar(Widget):
    """Spans at both ends of one line."""

    COMPONENT_CLASSES = COMPONENT_CLASSES

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.left: tuple[Span, ...] = ()
        self.right: tuple[Span, ...] = ()

    def show(self, left: Sequence[Span], right: Sequence[Span] = ()) -> None:
        if (self.left, self.right) != (tuple(left), tuple(right)):
            self.left, self.right = tuple(left), tuple(right)
            self.refresh()

    @property
    def text(self) -> str:
        return "".join(text for text, _ in (*self.left, *self.right))

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        return paint(self, align_ends(self.left, self.right, width), width) if y == 0 else Strip([])


class PanelTitle(Bar):
    """``── Title  note ──────── note ──``: a rule with words in it."""

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        left: list[Span] = [("\u2500\u2500 ", "track"), *self.left, (" ", "text")]
        right: list[Span] = [(" ", "text"), *self.right, (" \u2500\u2500", "track")]
        ends = right if self.right else []
        taken = sum(cell_len(text) for text, _ in [*left, *ends])
        rule: Span = ("\u2500" * max(0, width - taken), "track")
        return paint(self, align_ends([*left, rule], ends, width), width)
