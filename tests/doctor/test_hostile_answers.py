"""Whatever a host answers to doctor, it is findings or "could not be read", never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from situations import facts_of, host_of

from provisioner.doctor.checks import ALL_CHECKS
from provisioner.doctor.examine import diagnose
from provisioner.doctor.finding import SEVERITIES
from provisioner.doctor.probes import PROBES
from provisioner.doctor.probes.gpu_health import GPU_HEALTH, WANTED
from provisioner.doctor.report import host_text
from provisioner.facts import GPU, Facts, Unreadable
from provisioner.facts.base import Fact, parse

NONCE = "00112233445566aa"
CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "doctor" / "probes.yaml").read_text("utf-8")
)
PIECES = sorted(
    {line for rows in CASES.values() for row in rows for line in row["text"].splitlines()}
)
CONVERGED = {"from": "converged"}
HOST = host_of(CONVERGED)


def answered(probe: Fact[Any], text: str) -> Any:
    whole = f"\n{NONCE} begin {probe.name}\n{text}\n{NONCE} exit 0\n\n{NONCE} end\n"
    return parse(whole, [probe], NONCE)[probe.name]


def healthy() -> dict[str, Any]:
    """A host's facts, and what the probes understand of the first good case of each."""
    good = {
        probe.name: answered(
            probe, next(row["text"] for row in CASES[probe.name] if "expect" in row)
        )
        for probe in PROBES
    }
    return {**dict(facts_of(CONVERGED, HOST).items()), **good}


texts = st.lists(
    st.sampled_from(PIECES) | st.text(max_size=30) | st.sampled_from(["|", "0|", "exit|0", "row|"]),
    max_size=12,
).map("\n".join)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_any_answer_is_judged(probe: Fact[Any], text: str) -> None:
    found = diagnose(HOST, Facts({**healthy(), probe.name: answered(probe, text)}), "2026-11-21")
    assert all(one.severity in SEVERITIES for one in found.findings)
    assert len(found.checked) + len(found.unchecked) == len(ALL_CHECKS)
    assert not any(ord(letter) < 32 for letter in host_text("h", found).replace("\n", ""))


values = st.sampled_from(
    ["0", "1", "-1", "96", "999999999999999999999", "N/A", "[N/A]", "[Unknown Error]", "ERR!", "٣"]
) | st.text(alphabet=st.characters(exclude_characters=",\n\r|"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.lists(values, min_size=len(WANTED), max_size=len(WANTED)), max_size=3))
def test_any_value_of_any_field_is_judged(rows: list[list[str]]) -> None:
    lines = [f"row|{', '.join(row)}" for row in rows]
    text = "\n".join([f"fields|{','.join(WANTED)}", *lines, "exit|0"])
    known = {**healthy(), GPU_HEALTH.name: answered(GPU_HEALTH, text)}
    found = diagnose(HOST, Facts(known), "2026-11-21")
    assert found.verdict in ("healthy", "warnings", "unchecked", "problems")


@settings(max_examples=100, deadline=None)
@given(text=texts | st.text(max_size=300))
def test_any_answer_about_gpus_is_a_list_or_unreadable(text: str) -> None:
    found = answered(GPU, text)
    assert isinstance(found, Unreadable) or isinstance(found.gpus, tuple)
