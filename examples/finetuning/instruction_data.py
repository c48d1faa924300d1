"""Instruction files for fine-tuning: reading, encoding, and batches that can be resumed."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

EXPECTED_KEYS = '{"instruction": …, "response": …} or {"text": …}'
PROMPT = "### Instruction:\n{instruction}\n\n### Response:\n"
IGNORED = -100  # the label that torch's cross entropy leaves out

Encoded = dict[str, list[int]]


class Problem(Exception):
    """Something the user can put right; shown without a traceback, exit code 2."""


class Example(NamedTuple):
    """``prompt`` is context only; the loss counts ``answer``."""

    prompt: str
    answer: str


def read_examples(path: Path) -> list[Example]:
    """All examples of a JSON-lines file; raises Problem naming the file and line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"cannot read the data file {path}: {error}") from None
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    examples = [_example(line, f"{path}:{number}") for number, line in numbered]
    if not examples:
        raise Problem(f"{path}: no examples; expected one {EXPECTED_KEYS} per line")
    return examples


def _example(line: str, place: str) -> Example:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise Problem(f"{place}: not JSON ({error.msg}); expected {EXPECTED_KEYS}") from None
    if not isinstance(row, dict):
        raise Problem(f"{place}: expected an object {EXPECTED_KEYS}, got {type(row).__name__}")
    if _is_text(row.get("instruction")) and _is_text(row.get("response")):
        return Example(PROMPT.format(instruction=row["instruction"]), row["response"])
    if _is_text(row.get("text")):
        return Example("", row["text"])
    keys = ", ".join(sorted(row)) or "none"
    raise Problem(f"{place}: expected {EXPECTED_KEYS} with non-empty text, got the keys {keys}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def encode(examples: list[Example], tokenizer: Any, max_length: int) -> list[Encoded]:
    """Token ids and labels per example, cut to ``max_length``; the prompt has no loss.

    Raises Problem when the cut leaves nothing to learn from.
    """
    encoded = [_encode_one(example, tokenizer, max_length) for example in examples]
    useful = [row for row in encoded if any(label != IGNORED for label in row["labels"][1:])]
    if not useful:
        raise Problem(f"--max_length {max_length} cuts off every answer; try a larger one")
    return useful


def _encode_one(example: Example, tokenizer: Any, max_length: int) -> Encoded:
    prompt = tokenizer(example.prompt)["input_ids"] if example.prompt else []
    answer = tokenizer(example.answer, add_special_tokens=not prompt)["input_ids"]
    answer = [*answer, tokenizer.eos_token_id]
    labels = [IGNORED] * len(prompt) + answer
    return {"ids": [*prompt, *answer][:max_length], "labels": labels[:max_length]}


@lru_cache(maxsize=2)
def epoch_steps(
    count: int, seed: int, per_pass: int, passes: int, rank: int, world: int
) -> list[list[list[int]]]:
    """This rank's steps of one epoch: per optimizer step a list of passes of example indices.

    A pure function of its arguments, so that a resumed run sees what an unbroken one would
    have seen. Every rank gets equally many passes (the first examples fill up the last ones).
    """
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, not a secret
    per_rank = -(-count // world)
    mine = [order[index % count] for index in range(rank, per_rank * world, world)]
    all_passes = [mine[at : at + per_pass] for at in range(0, len(mine), per_pass)]
    return [all_passes[at : at + passes] for at in range(0, len(all_passes), passes)]


def collate(rows: list[Encoded], pad_id: int) -> dict[str, list[list[int]]]:
    """Rows padded on the right to equal length, under the model's argument names."""
    width = max(len(row["ids"]) for row in rows)
    return {
        "input_ids": [_padded(row["ids"], width, pad_id) for row in rows],
        "labels": [_padded(row["labels"], width, IGNORED) for row in rows],
        "attention_mask": [_padded([1] * len(row["ids"]), width, 0) for row in rows],
    }


def _padded(values: list[int], width: int, filler: int) -> list[int]:
    return values + [filler] * (width - len(values))
