"""Outputs in pages: all of them, once, in order."""

from __future__ import annotations

import pytest

from remote_agent.outputs import list_outputs, page_of_outputs

PATHS = ["a-b", "a/1", "a/b/c", "a/b.txt", "a.txt", "b", "z/z/z"]


@pytest.fixture
def root(tmp_path):
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    return str(tmp_path)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_together_are_the_whole(root, limit):
    seen, more = [], True
    while more:
        page, more = page_of_outputs(root, seen[-1] if seen else "", limit)
        seen += [found.path for found in page]
    assert seen == [found.path for found in list_outputs(root)]
    assert sorted(seen) == sorted(PATHS)


def test_a_file_that_vanished_between_two_pages_is_no_obstacle(root):
    page, more = page_of_outputs(root, "a/b/bb-gone", 1)
    assert ([found.path for found in page], more) == (["a/b/c"], True)
