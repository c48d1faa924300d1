"""Kernel log lines -> one finding per GPU and code: tests/cases/doctor/xid.yaml."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner import data
from provisioner.doctor import xid
from provisioner.doctor.finding import Finding
from provisioner.doctor.scan import scan_stream
from remote_agent.verdict import XID_ACTIONS

CASES = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "doctor" / "xid.yaml").read_text("utf-8")
)


def found_in(text: str) -> tuple[Finding, ...]:
    return scan_stream(io.BytesIO(text.encode()), "dmesg.txt")


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_kernel_log(case: dict[str, Any]) -> None:
    found = found_in(case["text"])
    told = [[one.id, one.severity, one.subject, one.count] for one in found]
    assert told == [row[:4] for row in case["expect"]]
    for one, row in zip(found, case["expect"], strict=True):
        for words in row[4]:
            assert words in f"{one.cause} {one.fix}"


@pytest.mark.parametrize("code", sorted(data.load("xid")["codes"]))
def test_every_code_of_the_table(code: int) -> None:
    line = f"[ 7.5] NVRM: Xid (PCI:0000:05:00): {code}, pid=1, name=python"
    [found] = found_in(f"something else\n{line}\n")
    table = data.load("xid")
    row = table["codes"][code]
    assert found.id == f"xid-{code}"
    assert found.cause == f"Xid {code}: {row['meaning']} (at [ 7.5])"
    assert found.fix.startswith(table["actions"][row["action"]]["fix"])
    assert found.evidence == line
    assert found.where == "dmesg.txt, line 2"
    assert "2025-10" in found.source


def test_every_action_is_used_and_every_used_action_is_there() -> None:
    table = data.load("xid")
    assert {row["action"] for row in table["codes"].values()} == set(table["actions"])


def test_a_job_is_blamed_on_no_xid_that_the_table_calls_harmless() -> None:
    """The agent has no YAML, so its verdicts keep a table of their own."""
    table = data.load("xid")
    for code in XID_ACTIONS:
        action = table["actions"][table["codes"][code]["action"]]
        assert action["severity"] in ("problem", "warning")


def test_a_flood_of_made_up_gpus_is_bounded_and_said() -> None:
    lines = (f"NVRM: Xid (PCI:{number:04x}:00:00): 79, x\n" for number in range(5000))
    found = found_in("".join(lines))
    assert len(found) == xid.MAX_GROUPS + 1
    [flood] = [one for one in found if one.id == "xid-flood"]
    assert str(5000 - xid.MAX_GROUPS) in flood.cause
