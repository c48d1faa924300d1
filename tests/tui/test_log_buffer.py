from __future__ import annotations

import pytest

from tui.ansi import Sgr
from tui.log_buffer import LogBuffer, Styled, plain


def shown(buffer: LogBuffer) -> list[str]:
    return [plain(buffer.line(number)) for number in range(buffer.first, buffer.end)]


def written(*pieces: str, **limits: int) -> LogBuffer:
    buffer = LogBuffer(**limits)
    for piece in pieces:
        buffer.write(piece)
    return buffer


def test_lines_come_out_as_they_went_in_whatever_the_pieces() -> None:
    text = "one\ntwo\n\nthree"
    assert shown(written(text)) == ["one", "two", "", "three"]
    assert shown(written(*text)) == ["one", "two", "", "three"]


def test_a_progress_bar_is_one_line() -> None:
    bar = "".join(f"\r{step:3}%|{'#' * step}" for step in range(0, 101, 10))
    buffer = written("start\n", *bar, "\ndone\n")
    assert shown(buffer) == ["start", "100%|" + "#" * 100, "done"]


def test_windows_line_ends_are_line_ends_even_when_split() -> None:
    assert shown(written("one\r", "\ntwo\r\n")) == ["one", "two"]


def test_several_bars_at_once_stay_on_their_lines() -> None:
    # what tqdm(position=1) writes
    step = "\router {0}\n\rinner {0}\x1b[A"
    buffer = written("begin\n", *(step.format(number) for number in range(50)), "\n\nend")
    assert shown(buffer) == ["begin", "outer 49", "inner 49", "end"]


def test_erasing_the_line_empties_it() -> None:
    assert shown(written("Downloading 40%", "\r\x1b[K", "\nnext")) == ["", "next"]
    assert shown(written("Downloading 40%\x1b[2KDone")) == ["Done"]


def test_colours_become_spans_and_carry_over_lines() -> None:
    buffer = written("a\x1b[31mb\nc\x1b[0m\nd")
    red = Sgr(fg="#f47067")
    assert buffer.line(0) == Styled("ab", ((0, Sgr()), (1, red)))
    assert buffer.line(1) == Styled("c", ((0, red),))
    assert buffer.line(2) == "d"


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b]0;owned\x07",
        "\x1b]8;;http://example.org\x1b\\",
        "\x1b[2J\x1b[H",
        "\x1b[?1049h",
        "\x1bP1$r0m\x1b\\",
        "\x1b(0",
        "\x1bc",
        "\x07\x08\x00\x7f",
        "\x9b31m".replace("31m", ""),
        "\u202e",
        "\u2028",
    ],
)
def test_no_control_reaches_the_screen(hostile: str) -> None:
    text = f"before{hostile}after"
    assert shown(written(text)) == ["beforeafter"]
    assert shown(written(*text)) == ["beforeafter"]


def test_an_unfinished_escape_waits_for_its_end() -> None:
    buffer = written("x\x1b[3")
    assert shown(buffer) == ["x"]
    buffer.write("1my")
    assert buffer.line(0) == Styled("xy", ((0, Sgr()), (1, Sgr(fg="#f47067"))))


def test_a_string_that_never_ends_does_not_swallow_the_log() -> None:
    lines = shown(written("\x1b]0;" + "x" * 10_000, "\nafter\n"))
    assert lines[-1] == "after"


def test_tabs_are_spaces() -> None:
    assert shown(written("a\tb\n\tc")) == ["a       b", "        c"]


def test_the_ring_keeps_the_newest_lines_under_their_own_numbers() -> None:
    buffer = LogBuffer(max_lines=100)
    for number in range(1000):
        buffer.write(f"line {number}\n")
    assert buffer.end == 1000
    assert len(buffer.lines) <= 101
    assert plain(buffer.line(999)) == "line 999"
    assert plain(buffer.line(buffer.first)) == f"line {buffer.first}"
    with pytest.raises(IndexError):
        buffer.line(buffer.first - 1)


def test_one_huge_write_is_bounded_too() -> None:
    buffer = written("\n".join(str(number) for number in range(10_000)), max_lines=100)
    assert len(buffer.lines) <= 100
    assert shown(buffer)[-1] == "9999"


def test_an_endless_line_is_cut() -> None:
    buffer = written("x" * 50, "x" * 50, "\nnext", max_line=20)
    assert shown(buffer) == ["x" * 19 + "\u2026", "next"]
    assert buffer.width == 20


def test_changes_are_reported_once_from_the_lowest_line() -> None:
    buffer = written("a\nb\nc")
    assert buffer.take_changes() == 0
    assert buffer.take_changes() == buffer.end
    buffer.write("d\ne")
    assert buffer.take_changes() == 2


def test_a_note_stands_on_its_own_line() -> None:
    buffer = written("half \x1b[31m")
    buffer.note("-- note")
    buffer.write("rest")
    assert shown(buffer) == ["half ", "-- note", "rest"]
    assert buffer.line(2) == "rest"
