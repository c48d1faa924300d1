from __future__ import annotations

import pytest

from tui.log_buffer import LogBuffer, plain
from tui.log_layout import LogLayout, height, line_filter, part_of


def rows(layout: LogLayout, buffer: LogBuffer, width: int = 0) -> list[str]:
    shown = []
    for row in range(layout.rows):
        number, part = layout.locate(row)
        text = plain(buffer.line(number))
        start, end = part_of(text, width, part) if width else (0, len(text))
        shown.append(text[start:end])
    return shown


def test_without_wrap_or_filter_a_row_is_a_line() -> None:
    buffer = LogBuffer()
    layout = LogLayout(buffer)
    buffer.write("a\nb\n")
    assert layout.sync() == 0
    assert rows(layout, buffer) == ["a", "b"]


def test_wrapping_shows_every_character_once() -> None:
    buffer = LogBuffer()
    layout = LogLayout(buffer, width=4)
    buffer.write("abcdefghij\n\nxy")
    layout.sync()
    assert rows(layout, buffer, 4) == ["abcd", "efgh", "ij", "", "xy"]


def test_wide_characters_are_not_cut_in_half() -> None:
    text = "\u4e2d\u6587\u5b57"
    assert height(text, 3) == 3
    assert [text[slice(*part_of(text, 3, part))] for part in range(3)] == list(text)


def test_a_line_that_grows_is_laid_out_again() -> None:
    buffer = LogBuffer()
    layout = LogLayout(buffer, width=4)
    for piece in ("abc", "de", "f\nnext"):
        buffer.write(piece)
        layout.sync()
    assert rows(layout, buffer, 4) == ["abcd", "ef", "next"]


def test_the_filter_follows_a_line_that_changes() -> None:
    buffer = LogBuffer()
    layout = LogLayout(buffer, accept=line_filter("loss"))
    buffer.write("start\n\rlo")
    layout.sync()
    assert rows(layout, buffer) == []
    buffer.write("ss=1\nother\nloss=2\n")
    layout.sync()
    assert rows(layout, buffer) == ["loss=1", "loss=2"]


@pytest.mark.parametrize("options", [{}, {"width": 3}, {"accept": line_filter("7")}])
def test_pruning_reports_the_rows_that_left(options: dict[str, object]) -> None:
    buffer = LogBuffer(max_lines=50)
    layout = LogLayout(buffer, **options)  # type: ignore[arg-type]
    buffer.write("".join(f"line{number}\n" for number in range(40)))
    layout.sync()
    before = rows(layout, buffer, int(options.get("width", 0) or 0))  # type: ignore[call-overload]
    buffer.write("".join(f"line{number}\n" for number in range(40, 60)))
    dropped = layout.sync()
    after = rows(layout, buffer, int(options.get("width", 0) or 0))  # type: ignore[call-overload]
    assert dropped > 0
    assert after[: len(before) - dropped] == before[dropped:]
    first_kept = plain(buffer.line(buffer.first))
    assert layout.row_of(buffer.first) == 0
    assert first_kept.startswith("line")


def test_beyond_the_last_row() -> None:
    layout = LogLayout(LogBuffer(), width=4)
    with pytest.raises(IndexError):
        layout.locate(0)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("ERR", ["an error"]),
        ("!error", ["fine"]),
        ("", ["an error", "fine"]),
        ("!", ["an error", "fine"]),
    ],
)
def test_filter_language(query: str, kept: list[str]) -> None:
    accept = line_filter(query)
    assert [line for line in ("an error", "fine") if accept is None or accept(line)] == kept
