"""Every action once: bindings, footer, palette and help are all made from this table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.binding import Binding, BindingType

APP = "anywhere"
FLEET = "dashboard"
LIST = "in a list"
LOG = "in the log"
SCOPES = (FLEET, LOG, LIST, APP)


@dataclass(frozen=True)
class Action:
    """``name`` is the Textual action; ``keys`` as Textual names them, comma-separated.

    mutates: changes something on a host; off with ``--readonly``. footer: worth a place there.
    """

    name: str
    keys: str
    shown: str
    label: str
    help: str
    scope: str = FLEET
    mutates: bool = False
    footer: bool = True
    palette: bool = True


ACTIONS = (
    Action("help", "question_mark,f1", "?", "help", "Show the keys of this screen", APP),
    Action("quit", "q", "q", "quit", "Leave the dashboard; jobs go on", APP),
    Action("open_log", "enter,l", "\u23ce", "log", "Open the selected job's log full screen"),
    Action("back", "escape", "esc", "back", "Leave the filter, or the full-screen log"),
    Action("filter", "slash", "/", "filter", "Show only log lines with a text; !text hides them"),
    Action("follow", "f", "f", "follow", "Go to the log's end and stay there"),
    Action("wrap", "w", "w", "wrap", "Wrap long log lines, or cut them"),
    Action("copy", "c", "c", "copy", "Copy the selected text, or the log in sight", footer=False),
    Action("describe", "d", "d", "describe", "Say everything about the selected job, host or GPU"),
    Action("stop_job", "ctrl+d", "^d", "stop", "Stop the selected job (asks first)", mutates=True),
    Action(
        "kill_job",
        "ctrl+k",
        "^k",
        "kill",
        "Kill the selected job at once (asks first)",
        mutates=True,
        footer=False,
    ),
    Action("retry", "r", "r", "retry", "Try the offline hosts again now", footer=False),
    Action("panel('fleet')", "1", "1", "fleet", "Go to the fleet", footer=False),
    Action("panel('jobs')", "2", "2", "jobs", "Go to the jobs", footer=False),
    Action("panel('log')", "3", "3", "log", "Go to the log", footer=False),
    Action("cursor(-1)", "up,k", "\u2191 k", "up", "Move up", LIST, footer=False, palette=False),
    Action(
        "cursor(1)", "down,j", "\u2193 j", "down", "Move down", LIST, footer=False, palette=False
    ),
    Action("page(-1)", "pageup", "PgUp", "page up", "Page up", LIST, footer=False, palette=False),
    Action(
        "page(1)", "pagedown", "PgDn", "page down", "Page down", LIST, footer=False, palette=False
    ),
    Action(
        "cursor_first", "home,g", "g", "first", "Go to the first", LIST, footer=False, palette=False
    ),
    Action(
        "cursor_last", "end,G", "G", "last", "Go to the last", LIST, footer=False, palette=False
    ),
    Action(
        "scroll_up",
        "up,k",
        "\u2191 k",
        "up",
        "Scroll up, which ends following",
        LOG,
        footer=False,
        palette=False,
    ),
    Action(
        "scroll_down", "down,j", "\u2193 j", "down", "Scroll down", LOG, footer=False, palette=False
    ),
    Action(
        "scroll_home",
        "home,g",
        "g",
        "top",
        "Go to the oldest line",
        LOG,
        footer=False,
        palette=False,
    ),
    Action(
        "scroll_end", "end,G", "G", "end", "Go to the newest line", LOG, footer=False, palette=False
    ),
    Action(
        "command_palette",
        "ctrl+p,colon",
        "^p",
        "commands",
        "Find an action by name",
        APP,
        palette=False,
    ),
    Action(
        "focus_next",
        "tab",
        "tab",
        "next panel",
        "Go to the next panel",
        APP,
        footer=False,
        palette=False,
    ),
)


def bindings(scope: str) -> list[BindingType]:
    """Textual bindings of one scope."""
    return [_binding(action) for action in ACTIONS if action.scope == scope]


def by_scope(actions: Iterable[Action] = ACTIONS) -> dict[str, list[Action]]:
    """For the help screen, in SCOPES order."""
    return {scope: [each for each in actions if each.scope == scope] for scope in SCOPES}


def is_mutating(name: str) -> bool:
    return any(action.mutates and action.name == name for action in ACTIONS)


def _binding(action: Action) -> Binding:
    return Binding(
        action.keys,
        action.name,
        action.label,
        show=action.footer,
        key_display=action.shown,
        tooltip=action.help,
    )
