"""`invoke facts` for people: a line or two per subject, whatever the facts are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from situations import facts_of, host_of

from provisioner import show
from provisioner.facts import Unreadable
from provisioner.facts_report import plain, text


def shown(case: dict[str, Any]) -> str:
    return text("gpu01", dict(facts_of(case, host_of(case)).items()))


def test_a_converged_host() -> None:
    lines = shown({"from": "converged"}).splitlines()
    assert lines[0] == "gpu01"
    told = {line.split()[0]: line for line in lines[1:] if line[2] != " "}
    assert "Debian GNU/Linux 12 (bookworm), x86_64" in told["os"]
    assert "1 x NVIDIA H100 80GB HBM3 (79.6 GiB, compute capability 9.0)" in told["gpu"]
    assert any("driver 580.173.02 loaded" in line and "persistence on" in line for line in lines)
    assert "ml (sudo without a password, lingers)" in told["login"]
    assert "Secure Boot off" in told["kernel"]
    assert "nvidia-persistenced runs, starts at boot" in told["nvidia_services"]
    assert "100.0 GiB free" in told["resources"]


@pytest.mark.parametrize("name", ["no gpu", "fresh", "converged"])
def test_every_subject_begins_in_the_same_column(name: str) -> None:
    lines = [line for line in shown({"from": name}).splitlines()[1:] if line[2] != " "]
    assert len({re.match(r"  \w+ +", line).end() for line in lines}) == 1  # type: ignore[union-attr]


def test_what_is_not_there_says_so() -> None:
    told = shown({"from": "no gpu"})
    assert "gpu" in told
    assert "not installed" in told
    assert "not there yet" in told
    assert "None" not in told


def test_a_fact_that_cannot_be_read_says_why_and_what_to_try() -> None:
    told = text("gpu01", {"docker": Unreadable("only root may ask", "--ask-sudo-password")})
    assert told.splitlines() == [
        "gpu01",
        "  docker  could not be read: only root may ask",
        "          try: --ask-sudo-password",
    ]


@dataclass(frozen=True)
class Later:
    """A fact that the report does not know yet."""

    names: tuple[str, ...] = ("a", "b")
    empty: str = ""
    table: Any = None


def test_a_fact_that_was_added_later_is_shown_all_the_same() -> None:
    assert text("h", {"later": Later(table={"x": 1})}) == "h\n  later  names a, b; table x"
    assert text("h", {"later": Later((), "", None)}) == "h\n  later  nothing"


def test_nothing_of_a_host_controls_the_terminal() -> None:
    told = text("h", {"later": Later(("\x1b[2J\x07",), "\u202e")})
    assert not set("\x1b\x07\u202e") & set(told)


def test_json_of_facts_holds_no_password() -> None:
    daemon = {
        "proxies": {"https-proxy": "http://admin:hunter2@proxy.example:3128"},
        "log-opts": {"splunk-token": "hunter2", "max-size": "10m"},
        "hosts": ["tcp://me:hun@ter2@[::1]:2375"],
        "features": {"cdi": True},
    }
    case = {"from": "converged", "facts": {"docker": {"daemon_json": daemon}}}
    facts = dict(facts_of(case, host_of(case)).items())
    shown = plain({**facts, "odd": Unreadable("cannot read https://u:hunter2@x.example/")})
    assert "hunter2" not in json.dumps(shown)
    assert "ter2" not in json.dumps(shown)
    assert shown["docker"]["daemon_json"] == {
        "proxies": {"https-proxy": "http://***@proxy.example:3128"},
        "log-opts": {"splunk-token": "***", "max-size": "10m"},
        "hosts": ["tcp://***@[::1]:2375"],
        "features": {"cdi": True},
    }
    assert facts["docker"].daemon_json == daemon, "what is merged keeps it"


def test_json_of_facts_has_every_field_as_it_is() -> None:
    case = {"from": "converged"}
    facts = dict(facts_of(case, host_of(case)).items())
    shown = json.loads(json.dumps(plain(facts)))
    assert shown == json.loads(show.as_json(facts))
