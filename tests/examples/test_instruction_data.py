from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finetuning.instruction_data import (
    IGNORED,
    Example,
    Problem,
    collate,
    encode,
    epoch_steps,
    read_examples,
)
from hypothesis import given
from hypothesis import strategies as st


class LetterTokenizer:
    """One token per letter; token 1 ends a text."""

    eos_token_id = 1

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, Any]:
        return {"input_ids": [ord(letter) for letter in text]}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_both_forms_and_skips_blank_lines(tmp_path: Path) -> None:
    text = '{"instruction": "Say ü", "response": "ü"}\n\n{"text": "plain"}\n'
    first, second = read_examples(written(tmp_path, text))
    assert "Say ü" in first.prompt
    assert first.answer == "ü"
    assert second == Example("", "plain")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ('"text"', "expected an object"),
        ("{}", "the keys none"),
        ('{"instruction": "a", "answer": "b"}', "the keys answer, instruction"),
        ('{"instruction": "a", "response": "  "}', "non-empty"),
        ('{"instruction": "a", "response": 3}', "non-empty"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(tmp_path: Path, line: str, says: str) -> None:
    path = written(tmp_path, '{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(Problem) as caught:
        read_examples(path)
    assert f"{path}:3" in str(caught.value)
    assert says in str(caught.value)
    assert '"instruction"' in str(caught.value)


def test_a_missing_empty_or_binary_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot read"):
        read_examples(tmp_path / "absent.jsonl")
    with pytest.raises(Problem, match="no examples"):
        read_examples(written(tmp_path, "\n\n"))
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Problem, match="cannot read"):
        read_examples(binary)


def test_only_the_answer_counts_in_the_loss() -> None:
    (row,) = encode([Example("ab", "cd")], LetterTokenizer(), 10)
    assert row["ids"] == [97, 98, 99, 100, 1]
    assert row["labels"] == [IGNORED, IGNORED, 99, 100, 1]


def test_examples_without_any_answer_left_are_dropped_or_refused() -> None:
    long, short = Example("abcdef", "g"), Example("a", "b")
    assert len(encode([long, short], LetterTokenizer(), 4)) == 1
    with pytest.raises(Problem, match="--max_length 4"):
        encode([long], LetterTokenizer(), 4)


def test_collate_pads_to_the_longest() -> None:
    rows = [{"ids": [5, 6], "labels": [5, 6]}, {"ids": [7], "labels": [7]}]
    assert collate(rows, pad_id=2) == {
        "input_ids": [[5, 6], [7, 2]],
        "labels": [[5, 6], [7, IGNORED]],
        "attention_mask": [[1, 1], [1, 0]],
    }


@given(
    count=st.integers(1, 60),
    per_pass=st.integers(1, 9),
    passes=st.integers(1, 4),
    world=st.integers(1, 8),
)
def test_ranks_see_every_example_in_equally_many_passes(
    count: int, per_pass: int, passes: int, world: int
) -> None:
    plans = [epoch_steps(count, 1, per_pass, passes, rank, world) for rank in range(world)]
    shapes = {tuple(tuple(map(len, step)) for step in plan) for plan in plans}
    seen = {index for plan in plans for step in plan for one in step for index in one}
    assert len(shapes) == 1
    assert seen == set(range(count))
    assert max(len(one) for step in plans[0] for one in step) <= per_pass
