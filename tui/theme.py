"""Calm colours on a dark ground; roles of ``tui.rows`` as theme variables."""

from __future__ import annotations

from textual.theme import Theme

THEME = Theme(
    name="rigup",
    primary="#6cb6ff",
    secondary="#8b98a9",
    accent="#6cb6ff",
    warning="#e0b060",
    error="#f47067",
    success="#7cc47f",
    foreground="#cdd9e5",
    background="#14181d",
    surface="#1a1f26",
    panel="#222933",
    dark=True,
    variables={
        "role-text": "#cdd9e5",
        "role-dim": "#8791a0",
        "role-strong": "#eaf1f8",
        "role-good": "#7cc47f",
        "role-warn": "#e0b060",
        "role-bad": "#f47067",
        "role-accent": "#6cb6ff",
        "role-sim": "#e0b060",
        "role-bar": "#4f8fc9",
        "role-trend": "#35597a",
        "role-track": "#3a4450",
        "footer-key-foreground": "#6cb6ff",
        "footer-description-foreground": "#8791a0",
        "footer-background": "#1a1f26",
        "scrollbar": "#2e3742",
        "scrollbar-hover": "#465362",
        "scrollbar-active": "#6cb6ff",
        "scrollbar-background": "#14181d",
        "scrollbar-background-hover": "#14181d",
        "scrollbar-background-active": "#14181d",
        "scrollbar-corner-color": "#14181d",
    },
)
