"""The memory of what a host sent: near enough to what Python really takes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from provisioner.agent.footprint import footprint
from remote_agent.protocol.job import JobRecord
from remote_agent.protocol.snapshot import OutputFile
from remote_agent.protocol.values import parse_json


def job(index: int) -> dict[str, Any]:
    spec = {"job_id": f"job-{index}", "name": "x" * (index % 90), "argv": ["python", f"{index}"]}
    return {"spec": spec, "state": "running", "created_at": index + 0.5, "log_bytes": 1000 + index}


def output(index: int) -> dict[str, Any]:
    return {"path": f"a/{index}", "size": 1000 + index, "identity": f"7:{index}:1:1:1"}


@pytest.mark.parametrize(("kind", "row"), [(JobRecord, job), (OutputFile, output)])
def test_it_is_at_least_what_python_takes(kind: Any, row: Any) -> None:
    rows = [row(index) for index in range(2000)]
    text = repr(rows).replace("'", '"').encode()
    kind.from_json(rows[0])
    tracemalloc.start()
    values = [kind.from_json(one) for one in parse_json(text)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken <= footprint(values) <= 5 * taken


def test_a_text_of_wide_characters_counts_as_such() -> None:
    assert footprint("x" * 999 + "\N{GRINNING FACE}") > 4000
