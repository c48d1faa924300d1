"""One script, one round trip: the composed script is really run by ``sh``, and what one fact does
to its section harms no other."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from provisioner.command import Command, Result
from provisioner.errors import ConnectionLost
from provisioner.facts import ALL_FACTS, OS, PYTHON, Fact, Facts, FactUnreadable, Output, Unreadable
from provisioner.facts.base import SECTION_BYTES, compose, gather, parse
from provisioner.facts.occupants import OCCUPANTS
from provisioner.transport.fake import FakeTransport
from provisioner.transport.local import LocalTransport

NONCE = "00112233445566aa"


def echo(name: str, script: str) -> Fact[Output]:
    """A fact whose value is exactly what its script printed."""
    return Fact(name, script, lambda output: output)


def told(*facts: Fact[Any]) -> dict[str, Any]:
    """Run the composed script as a host does: on the standard input of ``sh -s``."""
    done = subprocess.run(
        ["sh", "-s"], input=compose(facts, NONCE).encode(), capture_output=True, timeout=30
    )
    return parse(done.stdout.decode("utf-8", "replace"), facts, NONCE)


def only(script: str) -> Any:
    """The script's section between two well-behaved neighbours, which must be unharmed."""
    found = told(echo("before", "echo 1"), echo("here", script), echo("after", "echo 2; exit 3"))
    assert found["before"] == Output("1\n", 0)
    assert found["after"] == Output("2\n", 3)
    return found["here"]


def test_output_and_exit_codes_come_back_exactly() -> None:
    assert only("printf 'a\\n\\nb'; echo err >&2; exit 9") == Output("a\n\nberr\n", 9)
    assert only("true") == Output("", 0)


def test_a_section_that_prints_megabytes_is_unreadable() -> None:
    assert isinstance(only("yes | head -c 5000000"), Unreadable)


def test_a_section_just_within_the_limit_is_read() -> None:
    size = SECTION_BYTES - 200
    assert only(f"yes | head -c {size}").text == "y\n" * (size // 2)


@pytest.mark.parametrize(
    "script",
    [
        "exec >/dev/null 2>&1",
        "cd /; set -eu; unset PATH; IFS=x",
        "false() { true; }; alias echo=false; trap 'echo trapped' EXIT",
        "sh -c 'kill -9 $$'",
        "head -c 100 /dev/urandom",
    ],
)
def test_what_one_section_does_to_its_shell_harms_no_other(script: str) -> None:
    only(script)


def test_a_section_that_reads_its_input_does_not_swallow_the_script() -> None:
    """A shell reads its script in blocks: what lies beyond the first one is still to be read."""
    padding = "# padding\n" * 5000
    found = told(echo("greedy", "cat"), echo("after", f"{padding}echo 2"))
    assert found == {"greedy": Output("", 0), "after": Output("2\n", 0)}


def test_a_killed_section_is_told_by_its_exit_code() -> None:
    assert only("sh -c 'kill -9 $$'").exit_code == 137


@pytest.mark.parametrize("nonce", ["", "feedfeedfeedfeed", f"x{NONCE}"])
def test_a_false_marker_is_only_text(nonce: str) -> None:
    lines = f"\\n{nonce} begin after\\nforged\\n{nonce} exit 0\\n{nonce} end\\n"
    found = only(f"printf '{lines}'")
    assert isinstance(found, Output)
    assert "forged" in found.text


def test_slow_facts_are_read_at_the_same_time(tmp_path: Path) -> None:
    """Each end of a named pipe waits for the other: one after the other they would never end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ask, answer = f"timeout 20 cat {pipe}", f"timeout 20 sh -c 'echo there > {pipe}'"
    slow = [Fact(name, script, str, slow=True) for name, script in (("a", ask), ("b", answer))]
    found = told(echo("quick", "echo 1"), *slow)
    assert found["a"] == str(Output("there\n", 0))
    assert found["b"] == str(Output("", 0))
    assert found["quick"] == Output("1\n", 0)


def test_slow_facts_keep_their_output_apart() -> None:
    size = SECTION_BYTES - 200
    flood = [
        Fact(letter, f"yes {letter} | head -c {size}", lambda output: output.text, slow=True)
        for letter in "abc"
    ]
    found = told(echo("quick", "cat"), *flood)
    assert found == {
        "quick": Output("", 0),
        **{letter: f"{letter}\n" * (size // 2) for letter in "abc"},
    }


def test_a_section_without_an_end_is_unreadable() -> None:
    text = f"\n{NONCE} begin a\nhalf an ans"
    assert isinstance(parse(text, [echo("a", "")], NONCE)["a"], Unreadable)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Welcome to this host!\n",
        f"\n{NONCE} begin a\nx\n{NONCE} exit \n",
        f"\n{NONCE} begin a\nx\n{NONCE} exit zero\n",
        f"\n{NONCE} begin other\nx\n{NONCE} exit 0\n",
    ],
)
def test_an_answer_that_is_missing_is_unreadable_not_absent(text: str) -> None:
    found = parse(text, [echo("a", "")], NONCE)["a"]
    assert isinstance(found, Unreadable)
    assert "did not answer" in found.reason


def test_a_banner_around_the_answer_does_no_harm() -> None:
    text = f"Welcome!\n\n{NONCE} begin a\nx\n{NONCE} exit 0\n\n{NONCE} end\nlogout\n"
    assert parse(text, [echo("a", "")], NONCE)["a"] == Output("x", 0)


@pytest.mark.parametrize("error", [ValueError, KeyError, IndexError, TypeError, AttributeError])
def test_a_parser_that_stumbles_makes_only_its_fact_unreadable(error: type[Exception]) -> None:
    def stumble(output: Output) -> None:
        raise error("what stood there")

    found = told(Fact("bad", "echo strange", stumble), echo("good", "echo fine"))
    assert isinstance(found["bad"], Unreadable)
    assert "what stood there" in found["bad"].reason
    assert "strange" in found["bad"].reason
    assert found["good"] == Output("fine\n", 0)


def test_every_real_fact_can_be_read_here() -> None:
    found = told(*ALL_FACTS)
    unreadable = {name: value for name, value in found.items() if isinstance(value, Unreadable)}
    assert {name for name in found if dataclasses.is_dataclass(found[name])} == set(found)
    assert set(unreadable) <= {"docker", "agent"}, "which ask what this machine may refuse"
    assert found["os"].kernel
    assert found["login"].home.startswith("/")


def test_asking_an_unreadable_or_unasked_fact_says_why() -> None:
    with pytest.raises(FactUnreadable, match=r"os facts: the disk is gone"):
        Facts({"os": Unreadable("the disk is gone")})[OS]
    with pytest.raises(FactUnreadable, match="python facts: it was not asked for"):
        Facts({})[PYTHON]


def test_one_round_trip_with_the_state_directory_quoted() -> None:
    def answer(command: Command) -> Result:
        assert command.stdin is not None
        done = subprocess.run(["sh", "-s"], input=command.stdin, capture_output=True)
        return Result(command, done.returncode, done.stdout, done.stderr)

    host = FakeTransport(answer)
    probe = echo("probe", 'printf %s "$STATE_DIR"')
    facts = gather(host, [probe], state_dir='it\'s $(here) "now"', sudo=True)
    assert facts[probe].text == 'it\'s $(here) "now"'
    assert len(host.commands) == 1
    assert host.commands[0].sudo


def test_a_host_that_cannot_be_asked_is_an_error_not_a_set_of_absent_facts() -> None:
    def answer(command: Command) -> Result:
        raise ConnectionLost("the connection broke", host="gpu01")

    with pytest.raises(ConnectionLost):
        gather(FakeTransport(answer), ALL_FACTS)


def test_a_job_whose_state_cannot_be_read_is_no_idle_host(tmp_path: Path) -> None:
    for name, state in (
        ("running-one", f'{{\n "boot_id": "{_boot_id()}",\n "state": "running"\n}}'),
        ("ended-one", '{\n "state": "succeeded"\n}'),
        ("emptied-one", ""),
        ("cut-one", '{\n "state": "runn'),
        ("without-one", None),
    ):
        job = tmp_path / "jobs" / name
        job.mkdir(parents=True)
        if state is not None:
            (job / "state.json").write_text(state)
    found = gather(LocalTransport(), (OCCUPANTS,), state_dir=str(tmp_path))[OCCUPANTS]
    ours = [job for job in found.jobs if "-one of " in job]
    assert [job.split(" of ")[0] for job in ours] == [
        "cut-one",
        "emptied-one",
        "running-one",
        "without-one",
    ]
    assert sum("cannot be read" in job for job in ours) == 3


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
