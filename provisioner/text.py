"""Text from a host made safe for a terminal."""

from __future__ import annotations

import unicodedata

LINE_LIMIT = 2000
UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: control, format, surrogate; separators of lines and paragraphs."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, *, limit: int = LINE_LIMIT) -> str:
    """``text`` without control and format characters (escape sequences, bidirectional overrides),
    tabs as spaces, cut at ``limit`` characters. Newlines stay."""
    clean = "".join(_safe(character) for character in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"


def one_line(text: str, *, limit: int = LINE_LIMIT) -> str:
    """:func:`printable` in one line: a name or a reason from elsewhere can begin no line."""
    return printable(text, limit=limit).replace("\n", " ")


def hanging(text: str, indent: int) -> str:
    """:func:`printable`, with every line but the first moved in: text from elsewhere can neither
    look like a line of ours nor like another host's."""
    return printable(text).replace("\n", "\n" + " " * indent)


def _safe(character: str) -> str:
    if character == "\n":
        return character
    if character == "\t":
        return "    "
    return REPLACEMENT if unicodedata.category(character) in UNSAFE else character
