"""A proxy is tried before it is written anywhere; the script really runs."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from situations import facts_of, host_of

from inventory.model import Mirrors
from provisioner.actions import Action, Run, WriteFile
from provisioner.command import Command, Result
from provisioner.errors import BlockedError, ExitCode
from provisioner.proxy_check import PROBE, require_working_proxy
from provisioner.steps.base import Change
from provisioner.steps.network import Network
from provisioner.transport.fake import FakeTransport

PROXY = "http://proxy.example:3128"
HOST = replace(host_of({}), mirrors=Mirrors(http_proxy=PROXY))
CONVERGED = {"from": "converged"}


def answering(text: str) -> FakeTransport:
    return FakeTransport(lambda command: Result(command, 0, text.encode()))


def of_the_step() -> tuple[Action, ...]:
    outcome = Network().check(facts_of(CONVERGED, HOST), HOST)
    assert isinstance(outcome, Change)
    return outcome.actions


def test_a_wrong_proxy_is_refused_on_a_host_where_all_else_is_in_place() -> None:
    transport = answering("Could not connect to proxy.example:3128\n")
    with pytest.raises(BlockedError, match="Could not connect") as raised:
        require_working_proxy(transport, HOST, facts_of(CONVERGED, HOST), of_the_step())
    assert f"through the proxy {PROXY}" in raised.value.message
    assert "no setting was changed" in raised.value.message
    assert raised.value.exit_code == ExitCode.BLOCKED
    [asked] = transport.commands
    assert asked.words[4] == PROXY
    assert all(word.startswith("http") for word in asked.words[4:])


def test_one_answer_is_enough() -> None:
    transport = answering("first: timed out answered\n")
    require_working_proxy(transport, HOST, facts_of(CONVERGED, HOST), of_the_step())
    assert len(transport.commands) == 1


@pytest.mark.parametrize(
    "action", [WriteFile(PurePosixPath("/etc/x"), "y"), Run(Command.of("true"))]
)
def test_nothing_is_asked_where_no_proxy_is_written(action: Action) -> None:
    transport = answering("")
    require_working_proxy(transport, HOST, facts_of(CONVERGED, HOST), [action])
    none = replace(HOST, mirrors=Mirrors())
    require_working_proxy(transport, none, facts_of(CONVERGED, none), of_the_step())
    assert transport.commands == []


@pytest.mark.parametrize(
    ("answer", "works"),
    [
        ("exit 0", True),
        ("echo 'curl: (22) The requested URL returned error: 404' >&2; exit 22", True),
        ("echo 'curl: (56) CONNECT tunnel failed, response 407' >&2; exit 56", False),
        (
            "echo 'E: Failed to fetch http://a.example/x  404  Not Found'; exit 100",
            True,
        ),
        (
            "echo 'E: Failed to fetch http://a.example/x  407  Proxy Authentication'; exit 100",
            False,
        ),
        ("echo 'curl: (7) Failed to connect to proxy.example port 443' >&2; exit 7", False),
        ("echo 'curl: (7) Failed to connect to proxy.example port 3128' >&2; exit 7", False),
        ("echo 'curl: (22) The requested URL returned error: 502' >&2; exit 22", False),
        ("exit 28", False),
    ],
)
def test_what_counts_as_an_answer(tmp_path: Path, answer: str, works: bool) -> None:
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/sh\n{answer}\n")
    curl.chmod(0o755)
    script = PROBE.replace("/usr/lib/apt/apt-helper", "/nowhere")
    done = subprocess.run(
        ["sh", "-c", script, "sh", PROXY, "http://a.example/x"],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert done.stdout.strip().endswith("answered") is works
    assert works or done.stdout.strip()
