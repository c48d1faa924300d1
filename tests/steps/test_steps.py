"""Facts in, outcome out: tests/cases/steps/<step>.yaml, one file per step, and whole plans."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from situations import CASES, facts_of, host_of

from provisioner.plan import changes, check, plan
from provisioner.steps import ALL_STEPS, Blocked, Change, Outcome, Satisfied, Step

STEPS = {step.name: step for step in ALL_STEPS}
KINDS = {"satisfied": Satisfied, "change": Change, "blocked": Blocked}


def load(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return found


def cases() -> list[Any]:
    return [
        pytest.param(step, case, id=f"{name}: {case['name']}")
        for name, step in STEPS.items()
        for case in load(name)
    ]


def actions(outcome: Outcome) -> list[str]:
    return [action.describe() for action in outcome.actions] if isinstance(outcome, Change) else []


def matches(words: str, shown: str) -> bool:
    """``…`` stands for anything."""
    return re.search(".*".join(map(re.escape, words.split("…"))), shown) is not None


@pytest.mark.parametrize(("step", "case"), cases())
def test_outcome(step: Step, case: dict[str, Any]) -> None:
    host = host_of(case)
    outcome = check(step, facts_of(case, host), host)
    assert isinstance(outcome, KINDS[case["outcome"]]), outcome
    assert all(part in outcome.reason for part in case.get("reason", "").split("; ")), outcome
    assert case.get("not_reason", "\0") not in outcome.reason
    if isinstance(outcome, Blocked):
        assert outcome.what_to_do
        assert case.get("what_to_do", "") in outcome.what_to_do
        assert case.get("not_what_to_do", "\0") not in outcome.what_to_do
    if isinstance(outcome, Change):
        assert outcome.needs_reboot == case.get("needs_reboot", outcome.needs_reboot)
    shown = actions(outcome)
    wanted = case.get("actions", [])
    assert len(shown) == len(wanted), shown
    for words, action in zip(wanted, shown, strict=True):
        assert matches(words, action), f"{words!r} is not in {action!r}"
    assert not any(matches(case.get("not_actions", "\0"), action) for action in shown)


@pytest.mark.parametrize("case", load("plans"), ids=lambda case: case["name"])
def test_plan(case: dict[str, Any]) -> None:
    host = host_of(case)
    planned = plan(ALL_STEPS, facts_of(case, host), host)
    named = case["plan"]
    assert [item.step.name for item in planned if item.step.name in named] == list(named)
    for item in planned:
        assert isinstance(item.outcome, KINDS[named.get(item.step.name, "satisfied")]), item
    assert changes(planned) == list(case["plan"].values()).count("change")


@pytest.mark.parametrize(("step", "case"), cases())
def test_what_is_done_is_the_same_however_often_it_is_asked(
    step: Step, case: dict[str, Any]
) -> None:
    host = host_of(case)
    facts = facts_of(case, host)
    assert check(step, facts, host) == check(step, facts, host)


def test_steps_change_packages_only_as_root_and_never_ask() -> None:
    case = load("plans")[0]
    host = host_of(case)
    commands = [
        action.command
        for item in plan(ALL_STEPS, facts_of(case, host), host)
        if isinstance(item.outcome, Change)
        for action in item.outcome.actions
        if hasattr(action, "command")
    ]
    assert commands
    assert all(command.sudo for command in commands)
    for command in commands:
        if "apt-get" in command.words:
            assert "DEBIAN_FRONTEND=noninteractive" in command.words
            assert "install" not in command.words or "-y" in command.words
            assert any("Lock::Timeout" in word for word in command.words)


def test_every_step_has_cases() -> None:
    files = {file.stem for file in CASES.glob("*.yaml")} - {"base", "plans"}
    assert files == set(STEPS)
