"""SECURITY.md names the test of each promise; this checks that every named test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMED_TEST = re.compile(r"`(tests/[\w/.-]+\.py)(?:::(\w+))?`")
TABLE_ROW = re.compile(r"^\| (?!Promise|---)(?P<promise>[^|]+) \| (?P<tests>[^|]+) \|\s*\Z")


def _text() -> str:
    return (ROOT / "SECURITY.md").read_text()


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED_TEST.findall(_text()))))
def test_every_named_test_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file()
    assert not name or name in _tests_in(ROOT / path)


def test_every_promise_names_a_test() -> None:
    rows = [row for line in _text().splitlines() if (row := TABLE_ROW.match(line))]
    assert len(rows) > 20
    unproven = [row["promise"] for row in rows if not NAMED_TEST.search(row["tests"])]
    assert unproven == []
