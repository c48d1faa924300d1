"""Every situation on every distribution: tests/cases/matrix/driver.yaml."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from situations import facts_of, host_of

from inventory import Host
from inventory.model import Mirrors, Repository
from provisioner.facts import KERNEL, OS, Facts
from provisioner.facts.kernel import release_key
from provisioner.plan import check
from provisioner.platforms import ALL_PLATFORMS, platform_of
from provisioner.steps import Blocked, Change, Outcome, Satisfied
from provisioner.steps.driver import Driver
from provisioner.steps.kernel import Kernel

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cases" / "matrix" / "driver.yaml").read_text())
KINDS = {"satisfied": Satisfied, "change": Change, "blocked": Blocked}
NOTHING_TO_DO = {"outcome": "satisfied"}
MARK = "\x1f"

CASES = [
    pytest.param(name, situation, id=f"{name}: {situation['name']}")
    for name in TABLE["distributions"]
    for situation in TABLE["situations"]
]


def facts_for(distribution: str, situation: dict[str, Any]) -> Facts:
    """The situation's facts with what is called differently on that distribution."""
    words = TABLE["distributions"][distribution]
    changed: dict[str, Any] = {
        key: dict(value) for key, value in situation.get("facts", {}).items()
    }
    if "installed" in situation:
        versions = words[f"packages {situation['installed']}"]
        held = list(versions) if situation.get("held") else []
        changed["packages"] = {"versions": versions, "held": held}
    case = {"from": situation["from"], "system": distribution, "facts": changed}
    if situation.get("newer kernel"):
        running = facts_of(case, host_of(case))[KERNEL].running
        changed["kernel"] = {**changed.get("kernel", {}), "newest": newer(running)}
    return facts_of(case, host_of(case))


def host_in(distribution: str) -> Host:
    pinned = TABLE["distributions"][distribution].get("nvidia key")
    mirrors = Mirrors(nvidia=Repository(key_fingerprint=pinned))
    return replace(host_of({}), mirrors=mirrors)


def newer(release: str) -> str:
    """The next one of the same flavour: its last leading number plus one."""
    leading = ".".join(map(str, release_key(release)[:3]))
    first, _, last = leading.rpartition(".")
    return release.replace(leading, f"{first}.{int(last) + 1}", 1)


def spelled(text: str, distribution: str, running: str) -> list[str]:
    """``{install open}`` as the distribution's own words; RUNNING as its kernel."""
    words = TABLE["distributions"][distribution]
    text = text.replace("RUNNING", running)
    whole = re.fullmatch(r"\{([^}]+)\}", text)
    if whole and isinstance(words[whole[1]], list):
        return list(words[whole[1]])
    return [re.sub(r"\{([^}]+)\}", lambda found: words[found[1]], text)]


def shown(outcome: Outcome) -> str:
    actions = outcome.actions if isinstance(outcome, Change) else ()
    return MARK.join(action.describe() for action in actions)


@pytest.mark.parametrize(("distribution", "situation"), CASES)
@pytest.mark.parametrize("step", [Kernel(), Driver()], ids=lambda step: step.name)
def test_what_a_step_says(
    step: Kernel | Driver, distribution: str, situation: dict[str, Any]
) -> None:
    facts = facts_for(distribution, situation)
    outcome = check(step, facts, host_in(distribution))
    wanted = situation.get(step.name, NOTHING_TO_DO)
    if isinstance(wanted, str):
        wanted = TABLE["distributions"][distribution][wanted]
    running = facts[KERNEL].running
    assert isinstance(outcome, KINDS[wanted["outcome"]]), outcome
    assert wanted.get("reason", "").replace("RUNNING", running) in outcome.reason
    if isinstance(outcome, Blocked):
        assert wanted["what_to_do"] in outcome.what_to_do
    if isinstance(outcome, Change):
        assert outcome.needs_reboot == wanted.get("needs_reboot", outcome.needs_reboot)
        words = [
            w for text in wanted.get("words", []) for w in spelled(text, distribution, running)
        ]
        parts = [re.escape(part) for word in words for part in word.split("…")]
        assert re.search(".*".join(parts), shown(outcome), re.DOTALL), (words, shown(outcome))
        assert "words" not in wanted or bool(words) == bool(outcome.actions), shown(outcome)


def test_every_supported_family_is_in_the_table() -> None:
    listed = {
        platform_of(facts_for(name, {"from": "fresh"})[OS]).name for name in TABLE["distributions"]
    }
    assert listed == {platform.name for platform in ALL_PLATFORMS}
