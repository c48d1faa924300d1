"""Who says yes: an option, a person at a terminal, or nobody, which is a no."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from provisioner import consent
from provisioner.errors import BlockedError

Typed = Callable[[str | None], list[str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Typed:
    """A terminal at which somebody types that answer (None: nobody, ctrl-d); what was asked."""
    asked: list[str] = []

    def answer_with(answer: str | None) -> list[str]:
        def write(question: str) -> int:
            asked.append(question)
            if answer is not None:
                keyboard.write(f"{answer}\n")
            return len(question)

        reading, writing = os.pipe()
        terminal, keyboard = os.fdopen(reading), os.fdopen(writing, "w", buffering=1)
        request.addfinalizer(terminal.close)
        request.addfinalizer(keyboard.close)
        if answer is None:
            keyboard.close()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys.stderr, "write", write)
        return asked

    return answer_with


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [("y", True), (" YES ", True), ("n", False), ("", False), ("yeah", False), (None, False)],
)
def test_only_yes_is_a_yes(typed: Typed, answer: str | None, agreed: bool) -> None:
    asked = typed(answer)
    policy = consent.reboot_policy(True, False, 60)
    assert policy.agree("gpu01", "ann is logged in") is agreed
    assert asked == ["reboot gpu01 now? (ann is logged in) [y/N] "]
    ask = consent.removal_agreement(False)
    assert ask is not None
    assert ask("gpu01", "  docker: remove x") is agreed
    assert "gpu01: this will be done\n  docker: remove x\n" in asked[1]


def test_yes_asks_nobody(typed: Typed) -> None:
    asked = typed("n")
    assert consent.reboot_policy(True, True, 60).agree("gpu01", "")
    assert consent.removal_agreement(True) is None
    assert asked == []


def test_without_a_terminal_only_the_option_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    for ask in (
        lambda: consent.reboot_policy(True, False, 60),
        lambda: consent.removal_agreement(False),
    ):
        with pytest.raises(BlockedError) as refused:
            ask()
        assert "--yes" in str(refused.value.remedy)
    assert not consent.reboot_policy(False, False, 60).allowed
    assert consent.reboot_policy(True, True, 60).allowed


def test_what_a_host_says_cannot_pose_as_something_else(typed: Typed) -> None:
    asked = typed("n")
    consent.reboot_policy(True, False, 60).agree("gpu01", "\x1b[2Jall is well")
    assert "\x1b" not in asked[0]


def test_a_question_is_no_result(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json | jq``: stdout holds results only, and who is asked must see it."""
    asked = typed("y")
    assert consent.reboot_policy(True, False, 60).agree("gpu01", "")
    assert asked
    assert capsys.readouterr().out == ""


def test_hosts_ask_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    asking = threading.Semaphore(0)

    def ask(question: str) -> bool:
        at_once.append(1)
        asking.acquire(timeout=0.05)
        assert sum(at_once) == 1
        at_once.pop()
        return True

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(consent, "says_yes", ask)
    agree = consent.reboot_policy(True, False, 60).agree
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(agree("gpu01", ""))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 4
