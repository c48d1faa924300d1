"""Facts in, exact commands out: tests/cases/platforms/*.yaml, one file per family.

Each entry names a system and, per task, the actions in order; ``…`` stands for anything. A task
that is refused has ``blocked`` and ``remedy`` instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from situations import facts_of, host_of

from inventory import Host
from provisioner.actions import Action
from provisioner.errors import BlockedError
from provisioner.facts import OS, Facts
from provisioner.hardware import DriverChoice
from provisioner.platforms import Platform, platform_of

CASES = Path(__file__).parents[1] / "cases" / "platforms"
REFUSALS = "refusals"
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
Task = Callable[[Platform, Facts, Host], Sequence[Action]]


def docker(source: str) -> Task:
    def actions(platform: Platform, facts: Facts, host: Host) -> Sequence[Action]:
        packages = platform.install(*platform.docker_packages(facts[OS], source))
        if source == "distro":
            return packages
        wanted = platform.vendor_source("docker", facts[OS], host)
        return (*platform.source_actions(wanted, facts), *packages)

    return actions


def driver(flavour: str) -> Task:
    def actions(platform: Platform, facts: Facts, host: Host) -> Sequence[Action]:
        asked = host if host.driver_source == "distro" else replace(host, driver_source="vendor")
        return platform.driver_actions(DriverChoice("580", flavour, "a test"), facts, asked)

    return actions


def toolkit(platform: Platform, facts: Facts, host: Host) -> Sequence[Action]:
    source = platform.vendor_source("container_toolkit", facts[OS], host)
    return (
        *platform.source_actions(source, facts),
        *platform.install_versions(dict.fromkeys(TOOLKIT, "1.20.0-1")),
        *platform.hold(*TOOLKIT),
    )


def headers(platform: Platform, facts: Facts, host: Host) -> Sequence[Action]:
    return platform.install(*platform.header_packages(facts[OS].kernel, facts[OS]))


TASKS: dict[str, Task] = {
    "docker from the vendor": docker("vendor"),
    "docker from the distribution": docker("distro"),
    "driver, open modules": driver("open"),
    "driver, proprietary modules": driver("proprietary"),
    "toolkit 1.20.0, held": toolkit,
    "headers": headers,
    "release": lambda platform, facts, host: platform.release("nvidia-open"),
    "remove": lambda platform, facts, host: platform.remove("docker-ce"),
    "repair": lambda platform, facts, host: platform.repair(facts),
    "initramfs": lambda platform, facts, host: platform.rebuild_initramfs(),
    "trust an authority": lambda platform, facts, host: platform.authority_actions(
        {"company.crt": b"-----BEGIN CERTIFICATE-----"}
    ),
}


def load(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return found


def cases() -> list[Any]:
    return [
        pytest.param(case, task, id=f"{case['system']}: {case.get('name', '')} {task}")
        for file in sorted(CASES.glob("*.yaml"))
        if file.stem != REFUSALS
        for case in load(file.stem)
        for task in case["tasks"]
    ]


def matches(words: str, shown: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in words.split("…"))
    return re.fullmatch(pattern, shown, re.DOTALL) is not None


@pytest.mark.parametrize(("case", "task"), cases())
def test_commands(case: dict[str, Any], task: str) -> None:
    wanted = case["tasks"][task]
    situation = {"from": "no gpu", **case}
    host = host_of(situation)
    facts = facts_of(situation, host)
    if "blocked" in wanted:
        with pytest.raises(BlockedError) as raised:
            TASKS[task](platform_of(facts[OS]), facts, host)
        assert wanted["blocked"] in raised.value.message
        assert wanted["remedy"] in str(raised.value.remedy)
        return
    shown = [action.describe() for action in TASKS[task](platform_of(facts[OS]), facts, host)]
    assert len(shown) == len(wanted), shown
    for words, action in zip(wanted, shown, strict=True):
        assert matches(words, action), f"{action!r} instead of {words!r}"


@pytest.mark.parametrize("case", load(REFUSALS), ids=lambda case: case["system"])
def test_what_is_not_supported_is_refused_with_the_reason(case: dict[str, Any]) -> None:
    facts = facts_of({"from": "no gpu", **case}, host_of(case))
    with pytest.raises(BlockedError) as raised:
        platform_of(facts[OS])
    assert case["blocked"] in raised.value.message
    assert case["remedy"] in str(raised.value.remedy)
