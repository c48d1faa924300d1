"""Docker and the toolkit in every situation on every distribution: cases/matrix/engine.yaml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from situations import facts_of, host_of

from provisioner.facts import OS
from provisioner.plan import check
from provisioner.platforms import ALL_PLATFORMS, platform_of
from provisioner.steps import Blocked, Change, Satisfied
from provisioner.steps.docker import Docker
from provisioner.steps.toolkit import Toolkit

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cases" / "matrix" / "engine.yaml").read_text())
KINDS = {"satisfied": Satisfied, "change": Change, "blocked": Blocked}

CASES = [
    pytest.param(name, situation, step, id=f"{name}: {situation['name']}: {step.name}")
    for name in TABLE["distributions"]
    for situation in TABLE["situations"]
    for step in (Docker(), Toolkit())
    if step.name in situation
]


@pytest.mark.parametrize(("distribution", "situation", "step"), CASES)
def test_what_a_step_says(
    distribution: str, situation: dict[str, Any], step: Docker | Toolkit
) -> None:
    case = {**situation, "system": distribution}
    host = host_of({})
    outcome = check(step, facts_of(case, host), host)
    wanted = situation[step.name]
    assert isinstance(outcome, KINDS[wanted["outcome"]]), outcome
    assert wanted["reason"] in outcome.reason
    if isinstance(outcome, Change):
        command = TABLE["distributions"][distribution][wanted["installs"]]
        shown = [action.describe() for action in outcome.actions]
        words = ".*".join(map(re.escape, command.split("…")))
        assert any(re.search(words, action) for action in shown), shown


def test_every_supported_family_is_in_the_table() -> None:
    host = host_of({})
    listed = {
        platform_of(facts_of({"from": "fresh", "system": name}, host)[OS]).name
        for name in TABLE["distributions"]
    }
    assert listed == {platform.name for platform in ALL_PLATFORMS}
