"""What is said of the code that travels."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.code_selection import IGNORED, PULLED, SECRET, LeftOut
from provisioner.show_code import listing, plain, size, summary
from provisioner.sync import CodeTree
from remote_agent.protocol.snapshot import SnapshotEntry

TREE = CodeTree(
    Path("/code"),
    (SnapshotEntry("train.py", size=2048), SnapshotEntry("a\x1b[2J", size=3)),
    {},
    (LeftOut("data/", IGNORED), LeftOut(".env", SECRET), LeftOut("outputs/x", PULLED)),
    "0123456789abcdef+changes",
)


def test_a_summary_says_how_much_travels_and_what_does_not() -> None:
    text = summary(TREE)
    assert text.startswith("code: 2 files, 2.0 KiB of /code at 0123456789ab with changes\n")
    assert "ignored: 1" in text
    assert "may hold a secret: .env" in text
    assert ".rigupignore" in text


def test_a_listing_names_every_file_and_no_escape() -> None:
    text = listing(TREE)
    assert "2.0 KiB  train.py" in text
    assert "outputs/x (pulled results)" in text
    assert "\x1b" not in text
    assert plain(TREE)["bytes"] == 2051


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 20, "1.0 MiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
