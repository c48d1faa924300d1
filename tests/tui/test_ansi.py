from __future__ import annotations

import pytest

from tui.ansi import PLAIN, Sgr, apply_sgr


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("", PLAIN),
        ("0", PLAIN),
        ("1;32", Sgr(fg="#8ddb8c", bold=True)),
        ("38;5;196", Sgr(fg="#ff0000")),
        ("38;5;244", Sgr(fg="#808080")),
        ("48;2;1;2;3", Sgr(bg="#010203")),
        ("38:2:255:300:0", Sgr(fg="#ffff00")),
        ("97;104", Sgr(fg="#ffffff", bg="#96d0ff")),
        ("1;22", PLAIN),
        ("31;39", PLAIN),
    ],
)
def test_known_codes(params: str, expected: Sgr) -> None:
    assert apply_sgr(PLAIN, params) == expected


@pytest.mark.parametrize(
    "params", ["38", "38;5", "38;2;1", "38;7;1", "999", "?25", "8", "99999999"]
)
def test_nonsense_changes_nothing(params: str) -> None:
    assert apply_sgr(PLAIN, params) == PLAIN


def test_black_text_stays_legible() -> None:
    assert apply_sgr(PLAIN, "30").fg not in ("#000000", None)
