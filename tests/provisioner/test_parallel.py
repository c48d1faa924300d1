"""Work for many hosts at once."""

from __future__ import annotations

import threading

import pytest

from provisioner.parallel import MAX_AT_ONCE, Background, Patience, ahead, each, until_enough


def test_results_come_in_the_order_of_the_items() -> None:
    first_may_end = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert first_may_end.wait(10)
        else:
            first_may_end.set()
        return item * item

    assert each([0, 1, 2], work) == [0, 1, 4]
    assert each([], work) == []


def test_many_hosts_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(MAX_AT_ONCE)
    assert each(range(MAX_AT_ONCE), lambda _: meeting.wait(10) >= 0) == [True] * MAX_AT_ONCE


def test_work_that_never_ends_holds_up_neither_the_others_nor_the_end() -> None:
    for_ever = threading.Event()

    def work(item: int) -> str:
        if item % 2:
            for_ever.wait(60)
        return f"{item} done"

    items = range(2 * MAX_AT_ONCE + 2)  # more that hang than may run at once
    found = each(items, work, limit_s=lambda _: 0.0, overrun=lambda item: f"{item} late")
    for_ever.set()
    assert [text for item, text in zip(items, found, strict=True) if item % 2] == [
        f"{item} late" for item in items if item % 2
    ]
    assert all(text.startswith(str(item)) for item, text in zip(items, found, strict=True))


def test_what_is_begun_ahead_does_not_hold_up_and_its_error_is_nobodys() -> None:
    may_fail, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_fail.wait(10)
        raise ValueError("for whoever asks")

    before = set(threading.enumerate())
    ahead(work)
    assert began.wait(10)
    [thread] = set(threading.enumerate()) - before
    may_fail.set()
    thread.join(10)  # an error that leaves the thread fails this test: warnings are errors


class Race:
    """Work that ends when it is told to."""

    def __init__(self, names: str) -> None:
        self.gates = {name: threading.Event() for name in names}
        self.discarded: list[str] = []
        self.discards = threading.Event()

    def work(self, name: str) -> str:
        assert self.gates[name].wait(20)
        return name.upper()

    def discard(self, outcome: str) -> None:
        self.discarded.append(outcome)
        self.discards.set()

    def run(self, enough: str, grace_s: float = 0.0, limit_s: float = 20.0) -> list[str | None]:
        patience = Patience[str](lambda done: enough in done, grace_s, self.discard)
        return until_enough(list(self.gates), self.work, patience, limit_s=lambda name: limit_s)


def test_once_there_is_enough_the_others_are_left_to_themselves() -> None:
    race = Race("abc")
    race.gates["b"].set()
    assert race.run("B") == [None, "B", None]
    race.gates["a"].set()
    assert race.discards.wait(20)
    assert race.discarded == ["A"], "what comes later is given back"
    race.gates["c"].set()


def test_without_enough_all_are_waited_for() -> None:
    race = Race("abc")
    for gate in race.gates.values():
        gate.set()
    assert race.run("never") == ["A", "B", "C"]
    assert race.discarded == []


def test_nobody_is_waited_for_beyond_the_limit() -> None:
    race = Race("ab")
    race.gates["a"].set()
    assert race.run("never", limit_s=0.3) == ["A", None]
    race.gates["b"].set()


def test_no_items() -> None:
    assert Race("").run("A") == []


def test_work_in_the_background_gives_its_result_or_its_error() -> None:
    assert Background(lambda: 7).result() == 7
    with pytest.raises(ZeroDivisionError):
        Background(lambda: 1 // 0).result()
