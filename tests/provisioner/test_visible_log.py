"""Logs on a terminal: colours only."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.visible_log import VisibleLog

HARMLESS = re.compile(r"(?:\x1b\[[0-9;:]*m|[\t\n\r]|[^\x00-\x1f\x7f-\x9f])*\Z")


def shown(*chunks: bytes) -> bytes:
    log = VisibleLog()
    return b"".join([*map(log.feed, chunks), log.finish()])


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"step 1\tloss 0.5\n", b"step 1\tloss 0.5\n"),
        (b"\r 10%|#  |\r 20%|## |", b"\r 10%|#  |\r 20%|## |"),
        ("Zürich 训练 ✓\n".encode(), "Zürich 训练 ✓\n".encode()),
        (b"\x1b[31;1mred\x1b[0m\n", b"\x1b[31;1mred\x1b[0m\n\x1b[0m"),
        (b"\x1b]52;c;cm0gLXJm\x07", "␛]52;c;cm0gLXJm␇".encode()),
        (b"\x1b]0;title\x1b\\", "␛]0;title␛\\".encode()),
        (b"\x1b[2J\x1b[H", "␛[2J␛[H".encode()),
        (b"\x1b[31", "␛[31".encode()),
        (b"a\x00b\x08c\x7f", "a␀b␈c␡".encode()),
        ("a\u202eb\u009bc".encode(), b"a<U+202E>b<U+009B>c"),
        (b"caf\xe9\n", b"caf\\xe9\n"),
    ],
)
def test_only_colours_reach_the_terminal(log: bytes, expected: bytes) -> None:
    assert shown(log) == expected


@given(log=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_it_does_not_matter_where_the_log_is_cut(log: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    chunks = [log[start:end] for start, end in itertools.pairwise(places)]
    assert shown(*chunks) == shown(log)


@given(log=st.lists(st.sampled_from([b"\x1b", b"[", b"]", b"52;c;", b"m", b"\x07", b"x"])))
def test_no_log_reaches_the_terminal_with_anything_else(log: list[bytes]) -> None:
    assert HARMLESS.match(shown(*log).decode())
