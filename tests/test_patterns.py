"""``$`` also matches before a newline at the end, so an identifier that ends in one would pass."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_agent.protocol.job import JOB_ID
from remote_agent.protocol.snapshot import DIGEST
from remote_agent.spec_check import ENV_NAME

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("inventory", "provisioner", "remote_agent", "tui")


@pytest.mark.parametrize(
    ("pattern", "good"), [(JOB_ID, "llama-1121"), (DIGEST, "a" * 64), (ENV_NAME, "HF_HOME")]
)
def test_identifiers_end_where_they_end(pattern: re.Pattern[str], good: str) -> None:
    assert pattern.match(good)
    assert not pattern.match(good + "\n")


def test_no_pattern_of_one_text_ends_with_a_dollar() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in _sources()
        for line, text in _patterns(path)
        if text.endswith("$") and "(?m" not in text
    ]
    assert found == []


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def _patterns(path: Path) -> Iterator[tuple[int, str]]:
    """The literal first arguments of ``re.compile``, ``re.match`` and the like, without flags."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if not (isinstance(owner, ast.Name) and owner.id == "re" and len(node.args) < 3):
            continue
        if any(_is_multiline(argument) for argument in [*node.args, *node.keywords]):
            continue
        for part in node.args[:1]:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield node.lineno, part.value


def _is_multiline(argument: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("M", "MULTILINE")
        for node in ast.walk(argument)
    )
