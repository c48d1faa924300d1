"""Screens over the dashboard: text to read, and a question before something is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.actions import by_scope
from tui.rows import Span

CLOSE: list[BindingType] = [
    Binding("escape,q,enter", "dismiss(None)", "close"),
    Binding("j,down", "scroll(1)", show=False),
    Binding("k,up", "scroll(-1)", show=False),
]


class TextDialog(ModalScreen[None]):
    """Lines of spans under a title; any length, scrolled."""

    BINDINGS = CLOSE

    def __init__(self, title: str, lines: Sequence[Sequence[Span]]) -> None:
        super().__init__()
        self._heading = title
        self._lines = lines

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self._heading, style="bold"), classes="dialog--title")
            with VerticalScroll():
                yield Static(self._text(), classes="dialog--text")
            yield Static("esc closes", classes="dialog--hint")

    def action_scroll(self, direction: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=direction, animate=False)

    def _text(self) -> Text:
        styles = self.app.theme_variables
        text = Text()
        for line in self._lines:
            for piece, role in line:
                text.append(piece, style=_style(role, styles))
            text.append("\n")
        text.rstrip()
        return text


class ConfirmDialog(ModalScreen[bool]):
    """A question; True for yes. Enter alone says no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape,q", "dismiss(False)", "no"),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, detail: str, yes: str) -> None:
        super().__init__()
        self._question, self._detail, self._yes = question, detail, yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog dialog-question"):
            yield Static(Text(self._question, style="bold"), classes="dialog--title")
            yield Static(Text(self._detail), classes="dialog--text")
            with Horizontal(classes="dialog--buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button(f"{self._yes} (y)", id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")


def help_dialog(readonly: bool) -> TextDialog:
    lines: list[list[Span]] = []
    for scope, actions in by_scope().items():
        lines.append([(scope.capitalize(), "accent")])
        for action in actions:
            off = readonly and action.mutates
            note = "  (off: --readonly)" if off else ""
            lines.append(
                [
                    (f"  {action.shown:<7}", "dim" if off else "strong"),
                    (f"{action.help}{note}", "dim" if off else "text"),
                ]
            )
        lines.append([])
    return TextDialog("Keys", lines[:-1])


def _style(role: str, variables: dict[str, str]) -> str:
    colour = variables.get(f"role-{role}", "")
    return f"bold {colour}".strip() if role == "strong" else colour
