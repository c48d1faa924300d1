"""Captured text -> what doctor recognises: tests/cases/doctor/failures.yaml."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner import data
from provisioner.doctor.phrases import Phrase
from provisioner.doctor.scan import scan_stream
from provisioner.doctor.signatures import signatures
from provisioner.doctor.textlog import ANSI
from provisioner.doctor.toolkit_cves import cves_of

CASES = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "doctor" / "failures.yaml").read_text("utf-8")
)


def ids_in(text: str) -> list[str]:
    return sorted(finding.id for finding in scan_stream(io.BytesIO(text.encode()), "captured"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_captured_text(case: dict[str, Any]) -> None:
    assert ids_in(case["text"]) == sorted(case["expect"])


def test_every_row_and_every_phrase_and_exit_code_has_a_case() -> None:
    for signature in signatures():
        own = [case["text"].lower() for case in CASES if signature.id in case["expect"]]
        assert own, f"{signature.id} has no case"
        for phrase in signature.says:
            assert any(phrase.find_all(ANSI.sub("", text)) for text in own), (
                f"no case of {signature.id} says {phrase.pieces}"
            )
        if signature.exit is not None:
            assert any(f" {signature.exit}" in text for text in own)


def test_every_row_says_what_it_is_what_to_do_and_where_that_is_from() -> None:
    rows = data.load("failures")["messages"]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["severity"] in ("problem", "warning", "note")
        assert row["mark"] in ("H", "M", "U")
        assert all(row[key] for key in ("cause", "fix", "source", "date"))
        assert row.get("says") or "exit" in row


@pytest.mark.parametrize("row", data.load("failures")["toolkit_cves"], ids=lambda row: row["cve"])
def test_every_cve_is_named_below_the_version_that_fixes_it(row: dict[str, str]) -> None:
    major, minor, patch = map(int, row["fixed_in"].split("."))
    below = f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.9"
    text = f"NVIDIA Container Toolkit CLI version {below}\n"
    [found] = scan_stream(io.BytesIO(text.encode()), "captured")
    assert row["cve"] in found.cause
    assert row["cve"] not in cves_of(row["fixed_in"])


@pytest.mark.parametrize("text", ["", "*", "**"])
def test_a_phrase_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="says nothing"):
        Phrase.of(text)
