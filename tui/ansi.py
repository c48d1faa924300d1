"""Terminal escapes in logs: colours are kept as values, everything else is removed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

ESCAPE = re.compile(
    r"\x1b(?:"
    r"\[(?P<params>[0-?]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|[ -/]*[0-~]"  # two-character and charset escapes
    r"|)"  # a lone ESC
)
"""ECMA-48 control sequences after strings were removed: of a string without its end, the text
stays."""

STRING_ESCAPE = re.compile(r"\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)")
"""OSC, DCS, SOS, PM, APC: titles, links, clipboard."""

PARTIAL = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[\]PX^_][^\x07\x1b\n]{0,4096}\x1b?|[ -/]*)?\Z"
)
"""An escape that may go on in the next chunk."""

_BASIC = [
    "#7d8590",
    "#f47067",
    "#8ddb8c",
    "#e0b060",
    "#6cb6ff",
    "#dcbdfb",
    "#76d4dc",
    "#cdd9e5",
    "#909dab",
    "#ff938a",
    "#b4f1b4",
    "#f0d080",
    "#96d0ff",
    "#eedcff",
    "#b3f0f5",
    "#ffffff",
]
"""ANSI colours 0-15, all legible on a dark ground: black text would vanish."""


@dataclass(frozen=True)
class Sgr:
    """How text looks. Colours are ``#rrggbb`` or None for the default."""

    fg: str | None = None
    bg: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False
    strike: bool = False


PLAIN = Sgr()

_ATTRIBUTES: dict[int, dict[str, bool]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    7: {"reverse": True},
    9: {"strike": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    27: {"reverse": False},
    29: {"strike": False},
}


@lru_cache(maxsize=1024)
def apply_sgr(style: Sgr, params: str) -> Sgr:
    """``style`` after ``ESC [ params m``. Codes that are not understood change nothing."""
    codes = _codes(params)
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = PLAIN
        elif code in _ATTRIBUTES:
            style = _with_attributes(style, code)
        elif code in (38, 48):
            style = _with_colour(style, code == 38, _extended(codes))
        else:
            style = _with_basic(style, code)
    return style


def _codes(params: str) -> list[int]:
    parts = re.split("[;:]", params)
    return [int(part or 0) for part in parts if part == "" or (part.isdecimal() and len(part) < 5)]


def _with_attributes(style: Sgr, code: int) -> Sgr:
    changes: dict[str, Any] = dict(_ATTRIBUTES[code])
    return replace(style, **changes)


def _with_basic(style: Sgr, code: int) -> Sgr:
    if code in (39, 49):
        return _with_colour(style, code == 39, None)
    for start, first in ((30, 0), (90, 8)):
        if start <= code < start + 8:
            return _with_colour(style, True, _BASIC[code - start + first])
        if start + 10 <= code < start + 18:
            return _with_colour(style, False, _BASIC[code - start - 10 + first])
    return style


def _with_colour(style: Sgr, foreground: bool, colour: str | None) -> Sgr:
    return replace(style, fg=colour) if foreground else replace(style, bg=colour)


def _extended(codes: list[int]) -> str | None:
    """Takes ``5;n`` or ``2;r;g;b`` off the front of ``codes``."""
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        return _indexed(codes.pop(0))
    if kind == 2 and len(codes) >= 3:
        red, green, blue = (min(255, codes.pop(0)) for _ in range(3))
        return f"#{red:02x}{green:02x}{blue:02x}"
    codes.clear()
    return None


def _indexed(index: int) -> str | None:
    """The xterm 256-colour palette: 16 basic, a 6x6x6 cube, 24 greys."""
    if index < 16:
        return _BASIC[index]
    if index < 232:
        levels = (0, 95, 135, 175, 215, 255)
        cube = index - 16
        channels = levels[cube // 36], levels[cube // 6 % 6], levels[cube % 6]
        return "#{:02x}{:02x}{:02x}".format(*channels)
    if index < 256:
        grey = 8 + 10 * (index - 232)
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    return None
