"""Figures as tables: medians, spreads, ratios. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median


def rotated(names: Sequence[str], round_number: int) -> list[str]:
    """Another one begins every round, so that no one always follows the same one."""
    start = round_number % len(names)
    return [*names[start:], *names[:start]]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the medians."""
    return median(ours) / median(theirs)


def comparison(seconds: Mapping[str, Sequence[float]], subject: str) -> str:
    """One line per contender: median, fastest and slowest, and the subject's share of it."""
    rows = [
        (
            name,
            f"{median(runs):.2f}",
            f"{min(runs):.2f}",
            f"{max(runs):.2f}",
            f"{ratio(seconds[subject], runs):.3f}",
        )
        for name, runs in seconds.items()
    ]
    return table(("", "median s", "fastest", "slowest", f"{subject} / it"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with the first column left and the others right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(line(cells) for cells in (head, rule, *rows))
