"""Captured output of hosts -> facts: tests/cases/facts/<fact>.yaml, one file per fact."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.facts import ALL_FACTS, Fact, Unreadable
from provisioner.facts.base import parse

CASES = Path(__file__).parents[1] / "cases" / "facts"
FACTS = {fact.name: fact for fact in ALL_FACTS}
NONCE = "00112233445566aa"


def cases() -> list[Any]:
    return [
        pytest.param(FACTS[file.stem], case, id=f"{file.stem}: {case['name']}")
        for file in sorted(CASES.glob("*.yaml"))
        for case in yaml.safe_load(file.read_text())
    ]


def understood(fact: Fact[Any], text: str, exit_code: int = 0) -> Any:
    """What rigup makes of one host's answer to one fact."""
    told = f"\n{NONCE} begin {fact.name}\n{text}\n{NONCE} exit {exit_code}\n\n{NONCE} end\n"
    return parse(told, [fact], NONCE)[fact.name]


def plain(value: Any) -> Any:
    """Dataclasses and tuples as the lists that YAML has."""
    if dataclasses.is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize(("fact", "case"), cases())
def test_captured_output(fact: Fact[Any], case: dict[str, Any]) -> None:
    found = understood(fact, case["text"], case.get("exit_code", 0))
    if "unreadable" in case:
        assert isinstance(found, Unreadable), f"taken for {found}"
        assert case["unreadable"] in found.reason
        return
    assert not isinstance(found, Unreadable), found.reason
    assert {name: plain(getattr(found, name)) for name in case["expect"]} == case["expect"]


def test_every_fact_has_cases_and_every_file_a_fact() -> None:
    assert {file.stem for file in CASES.glob("*.yaml")} == set(FACTS)


@settings(max_examples=150, deadline=None)
@given(
    fact=st.sampled_from(ALL_FACTS),
    exit_code=st.integers(0, 255),
    lines=st.lists(
        st.text(max_size=30)
        | st.sampled_from(
            [
                *(
                    "ID=",
                    "pci|",
                    "pci|a|0x0302|b|c",
                    "gpu|0, GPU-a, b, c, d, e",
                    "info={",
                    "info=[]",
                ),
                *(
                    'info={"ServerErrors":{}}',
                    'info={"ServerVersion":[]}',
                    "daemon=null",
                    "installed=1",
                ),
                *("|", "a|b|c", "ii|x|", "file /x", "key", ".", "version=9.9", "Python 9", "USER="),
                *("info=" + "[" * 5000, "daemon=" + "[" * 100_000, "\x00", "=", "\u2028"),
            ]
        ),
        max_size=6,
    ),
)
def test_whatever_a_host_prints_is_understood_or_unreadable(
    fact: Fact[Any], exit_code: int, lines: list[str]
) -> None:
    found = understood(fact, "\n".join(lines), exit_code)
    assert isinstance(found, Unreadable) or dataclasses.is_dataclass(found)
