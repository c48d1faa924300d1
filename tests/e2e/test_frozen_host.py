"""One of two practice hosts is frozen: it accepts connections and does nothing more."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from lab_program import Rigup

pytestmark = pytest.mark.e2e

WITHIN_S = 90.0
"""The default limits: 10 s for a connection. The machine may be busy."""


@pytest.fixture(scope="module")
def frozen(provisioned: Rigup) -> Iterator[Rigup]:
    listed = provisioned.ok("lab.status", "--json").json
    [container] = [host["container"] for host in listed["hosts"] if host["name"] == "lab02"]
    subprocess.run(["docker", "pause", container], check=True, capture_output=True)
    yield provisioned
    subprocess.run(["docker", "unpause", container], check=True, capture_output=True)


@pytest.mark.parametrize(
    "words",
    [
        ("jobs",),
        ("facts", "--all"),
        ("doctor", "--all"),
        ("container.list",),
        ("provision", "--all", "--check"),
        ("trust", "--all", "--yes"),
        ("uninstall", "--all", "--check"),
    ],
    ids=lambda words: words[0],
)
def test_the_other_host_is_shown_and_the_frozen_one_named(
    frozen: Rigup, words: tuple[str, ...]
) -> None:
    done = frozen(*words, timeout=WITHIN_S)
    assert done.code in (1, 3), done.said
    assert "lab02: " in done.said
    assert "no answer in time" in done.said
    assert "lab01" in done.said or "no jobs" in done.out or "no containers" in done.out
