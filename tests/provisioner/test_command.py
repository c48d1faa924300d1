"""Commands as values: what a shell makes of the rendered line, and what is never shown."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.command import Command, Result, Secret

words = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["", " ", "'", '"', "$(id)", "`id`", "-n", "\n", "*", "~", "a=b", ";", "\\"]),
    min_size=1,
    max_size=8,
)


def shell(line: str) -> bytes:
    return subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout


@settings(max_examples=60, deadline=None)
@given(words)
def test_a_shell_reads_back_exactly_the_words(given_words: list[str]) -> None:
    line = Command.of("printf", r"%s\0", *given_words).render()
    assert shell(line).decode().split("\0")[:-1] == given_words


@settings(max_examples=40, deadline=None)
@given(words)
def test_a_script_receives_its_arguments_unchanged(given_words: list[str]) -> None:
    line = Command.sh(r'for word in "$@"; do printf "%s\0" "$word"; done', *given_words).render()
    assert shell(line).decode().split("\0")[:-1] == given_words


def test_a_script_without_arguments_runs_as_it_is() -> None:
    assert shell(Command.sh("printf '%s' \"$#\"").render()) == b"0"


@pytest.mark.parametrize("bad", [("a\0b",), ("ok", "\0"), ()])
def test_what_no_shell_can_pass_is_refused(bad: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"NUL|at least one word"):
        Command(bad)


def test_a_secret_shows_nowhere() -> None:
    secret = Secret("hunter2")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret])):
        assert "hunter2" not in shown
        assert "***" in shown
    assert secret.reveal() == "hunter2"


def test_standard_input_shows_nowhere() -> None:
    command = Command.of("cat", stdin=b"hunter2", sudo=True)
    assert "hunter2" not in repr(command) + str(command) + command.render()
    assert str(command) == "sudo cat"


def test_a_failure_shows_the_command_its_status_and_the_end_of_stderr() -> None:
    stderr = "\n".join(f"line {number}" for number in range(40)).encode()
    shown = Result(Command.of("apt-get", "a b"), 100, b"out", stderr).describe_failure()
    assert "`apt-get 'a b'` exited with 100" in shown
    assert "line 39" in shown
    assert "line 27" not in shown
    assert "out" not in shown


def test_a_failure_without_stderr_shows_the_end_of_stdout() -> None:
    shown = Result(Command.of("x"), 1, b"E: broken \xff\n").describe_failure()
    assert "E: broken" in shown
    assert Result(Command.of("x"), 1).describe_failure() == "`x` exited with 1"
