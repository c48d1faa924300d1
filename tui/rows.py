"""Rows of styled text in columns that fit a width. Roles are names; widgets give them colours."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.cells import cell_len

from tui.text import fit

Span: TypeAlias = "tuple[str, str]"
"""Text and role."""

ROLES = ("text", "dim", "strong", "good", "warn", "bad", "accent", "sim", "bar", "track", "trend")


@dataclass(frozen=True)
class Column:
    """``rank``: columns with the highest rank go first where there is no room (0: never).
    Spare cells go to each column up to ``most``, those of the lowest ``turn`` first."""

    key: str
    title: str
    least: int
    most: int
    rank: int = 0
    right: bool = False
    turn: int = 1


@dataclass(frozen=True)
class Layout:
    """Columns with the widths they were given."""

    columns: tuple[Column, ...]
    widths: Mapping[str, int]
    gap: int

    def width(self, key: str) -> int:
        """0 where the column had to go."""
        return self.widths.get(key, 0)

    def header(self) -> tuple[Span, ...]:
        return self.spans({column.key: ((column.title, "dim"),) for column in self.columns})

    def spans(self, cells: Mapping[str, Sequence[Span]]) -> tuple[Span, ...]:
        """One line; every cell is cut or padded to its column."""
        spans: list[Span] = [(" ", "text")]
        for index, column in enumerate(self.columns):
            if index:
                spans.append((" " * self.gap, "text"))
            spans += fit_spans(cells.get(column.key, ()), self.widths[column.key], column.right)
        return tuple(spans)


@dataclass(frozen=True)
class Row:
    """``key`` stays the same while the row means the same thing; None cannot be selected."""

    key: Hashable | None
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.spans)


def arrange(columns: Sequence[Column], width: int) -> Layout:
    """Widths for the columns that fit into ``width`` cells, with a margin of one at each side."""
    gap = 1 if width < 110 else 2
    kept = list(columns)
    while len(kept) > 1 and _needed(kept, gap) > width - 2:
        lowest = max(kept, key=lambda column: column.rank)
        if lowest.rank == 0:
            break
        kept.remove(lowest)
    spare = max(0, width - 2 - _needed(kept, gap))
    widths = {}
    for column in sorted(kept, key=lambda column: column.turn):
        extra = min(spare, max(0, column.most - column.least))
        widths[column.key] = column.least + extra
        spare -= extra
    return Layout(tuple(kept), widths, gap)


def fit_spans(spans: Sequence[Span], width: int, right: bool = False) -> list[Span]:
    """``spans`` cut or padded to exactly ``width`` cells."""
    taken: list[Span] = []
    left = width
    for text, role in spans:
        length = cell_len(text)
        if length > left:
            taken.append((fit(text, left), role))
            return taken
        taken.append((text, role))
        left -= length
    padding = (" " * left, "text")
    return [padding, *taken] if right else [*taken, padding]


def align_ends(left: Sequence[Span], right: Sequence[Span], width: int) -> tuple[Span, ...]:
    """``left`` and ``right`` at the two ends of ``width`` cells; ``left`` gives way."""
    taken = sum(cell_len(text) for text, _ in right)
    if taken >= width:
        return tuple(fit_spans(right, width))
    return (*fit_spans(left, width - taken), *right)


def _needed(columns: Sequence[Column], gap: int) -> int:
    return sum(column.least for column in columns) + gap * (len(columns) - 1)
