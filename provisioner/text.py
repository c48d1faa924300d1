"""Text from a host made safe for a terminal."""

from __future__ import annotations

import unicodedata

LINE_LIMIT = 2000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, *, limit: int = LINE_LIMIT) -> str:
    """``text`` without control and format characters (escape sequences, bidirectional overrides),
    tabs as spaces, cut at ``limit`` characters. Newlines stay."""
    clean = "".join(_safe(character) for character in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"


def _safe(character: str) -> str:
    if character == "\n":
        return character
    if character == "\t":
        return "    "
    return REPLACEMENT if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character
