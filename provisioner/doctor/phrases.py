"""Phrases: how the failure table says what a line contains. Linear in the text, whatever it holds.

``*`` stands for up to GAP other characters of the same line, capitals do not count, words are whole
words. There is no regular expression in the table, so none of its rows can be made to run for
minutes.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

GAP = 200

Span = tuple[int, int]


@dataclass(frozen=True)
class Phrase:
    """The pieces between the stars, in lower case, none of them empty."""

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Phrase:
        pieces = tuple(piece for piece in text.lower().split("*") if piece)
        if not pieces:
            raise ValueError(f"the phrase {text!r} says nothing")
        return cls(pieces)

    def find_all(self, lowered: str) -> list[Span]:
        """Where it stands in a text in lower case, as (start, end)."""
        if any(piece not in lowered for piece in self.pieces):
            return []
        spans = _occurrences(self.pieces[0], lowered)
        for piece in self.pieces[1:]:
            spans = _followed(lowered, spans, _occurrences(piece, lowered))
        return spans


def _occurrences(piece: str, text: str) -> list[Span]:
    found = []
    start = text.find(piece)
    while start >= 0:
        end = start + len(piece)
        if _whole_words(text, start, end):
            found.append((start, end))
        start = text.find(piece, end)
    return found


def _whole_words(text: str, start: int, end: int) -> bool:
    cut_before = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    cut_after = end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
    return not (cut_before or cut_after)


def _followed(text: str, before: list[Span], after: list[Span]) -> list[Span]:
    """Spans that begin with one of ``before`` and end with one of ``after`` within the gap."""
    ends = [end for _, end in before]
    joined = []
    for start, end in after:
        nearest = bisect_right(ends, start) - 1
        if nearest >= 0 and ends[nearest] >= start - GAP:
            between = text[ends[nearest] : start]
            if "\n" not in between:
                joined.append((before[nearest][0], end))
    return joined
