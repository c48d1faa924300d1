"""From roles to colours."""

from __future__ import annotations

from collections.abc import Iterable

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from tui.rows import ROLES, Span

COMPONENT_CLASSES = {f"role--{role}" for role in ROLES}


def paint(widget: Widget, spans: Iterable[Span], width: int) -> Strip:
    """One line of ``width`` cells in the widget's component styles ``role--…``."""
    segments = [Segment(text, role_style(widget, role)) for text, role in spans if text]
    return on_ground(widget, Strip(segments).adjust_cell_length(width))


def on_ground(widget: Widget, strip: Strip) -> Strip:
    """``strip`` on the widget's background, where it has none of its own."""
    return strip.apply_style(Style(bgcolor=widget.background_colors[1].rich_color))


def role_style(widget: Widget, role: str) -> Style:
    return widget.get_component_rich_style(f"role--{role}", partial=True)
