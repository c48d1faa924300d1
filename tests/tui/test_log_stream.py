from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tui.log_buffer import LogBuffer, plain
from tui.log_stream import LogStream


def shown(stream: LogStream) -> list[str]:
    buffer = stream.buffer
    return [plain(buffer.line(number)) for number in range(buffer.first, buffer.end)]


def stream() -> LogStream:
    return LogStream(LogBuffer())


def test_repeated_bytes_are_shown_once() -> None:
    log = stream()
    log.feed(0, b"one\ntwo\n")
    log.feed(4, b"two\nthree\n")
    log.feed(0, b"one\n")
    assert shown(log) == ["one", "two", "three"]
    assert log.next_offset == 14


def test_a_gap_is_said() -> None:
    log = stream()
    log.feed(0, b"one\nhal")
    log.feed(2055, b"f\nlast\n")
    lines = shown(log)
    assert lines[:2] == ["one", "hal"]
    assert "2.0 KiB skipped" in lines[2]
    assert lines[3:] == ["f", "last"]


def test_opening_in_the_middle_drops_the_broken_line_and_says_so() -> None:
    log = stream()
    log.feed(1_000_000, b"oken line\nwhole line\n")
    assert "977 KiB before this are not shown" in shown(log)[0]
    assert shown(log)[1:] == ["whole line"]


def test_opening_in_the_middle_of_a_progress_bar_shows_the_bar() -> None:
    log = stream()
    log.feed(5000, b"\x96\x88| 40%\r\xe2\x96\x88| 41%")
    assert shown(log)[1:] == ["\u2588| 41%"]


def test_opening_in_the_middle_of_a_character() -> None:
    log = stream()
    log.feed(5000, b"\x96\x88 no line end")
    assert shown(log)[1:] == [" no line end"]


def test_invalid_utf8_is_replaced() -> None:
    log = stream()
    log.feed(0, b"a\xff\xfeb\n\xe2\x96")
    log.feed(7, b"\nnext")
    assert shown(log) == ["a\ufffd\ufffdb", "\ufffd", "next"]


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_how_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole, pieces = stream(), stream()
    whole.feed(0, data)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(ends):
        pieces.feed(start, data[start:end])
    assert shown(pieces) == shown(whole)


@settings(deadline=None)
@given(st.text(alphabet="ab\n\r\x1b[31mKA\t\u00e9\u4e2d", max_size=120), st.data())
def test_how_escapes_are_cut_makes_no_difference(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cut = data.draw(st.integers(0, len(raw)))
    whole, pieces = stream(), stream()
    whole.feed(0, raw)
    pieces.feed(0, raw[:cut])
    pieces.feed(cut, raw[cut:])
    assert shown(pieces) == shown(whole)


def test_a_log_that_became_shorter_begins_anew() -> None:
    log = stream()
    log.feed(0, b"one\ntwo\n", 8)
    log.feed(8, b"", 4)
    log.feed(0, b"new\n", 4)
    lines = shown(log)
    assert lines[:2] == ["one", "two"]
    assert "shorter" in lines[2]
    assert lines[3:] == ["new"]
