"""Ctrl-C, deadlines, order over many hosts: nothing is cut in the middle, nobody forgotten."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, replace

import pytest
from scripted_host import Package, ScriptedHost

from inventory import Host
from provisioner.actions import commands
from provisioner.command import Command, Result
from provisioner.errors import ConnectError, ExitCode, Interrupted, OutOfTime, StepFailed
from provisioner.facts import Facts
from provisioner.fleet import Pace, over_hosts
from provisioner.host_job import Job
from provisioner.interrupt import Stop, stopping_on_signals
from provisioner.report import HostReport
from provisioner.runner import provision
from provisioner.steps import Change, Outcome
from provisioner.transport.fake import FakeTransport

STEPS = (Package("one"), Package("two"), Package("three"))
AT_ONCE = Pace(grace_s=0.0)


def job(host: ScriptedHost, transport: FakeTransport | None = None) -> Job:
    return Job(Host(host.name, host.name), transport or host.transport())


def work(one: Job) -> HostReport:
    return provision(one, STEPS, lambda *words: None)


def stopping_at(word: str, stop: Stop) -> ScriptedHost:
    """A host on which somebody presses ctrl-c while ``install WORD`` runs."""
    host = ScriptedHost()

    def install(command: Command) -> Result:
        if command.words[1] == word:
            stop.ask()
        host.packages[command.words[1]] = "1"
        return Result(command, 0)

    host.answers["install"] = install
    return host


def test_after_ctrl_c_the_running_action_ends_and_none_follows() -> None:
    stop = Stop()
    host = stopping_at("two", stop)
    [report] = over_hosts([job(host)], work, Pace(), stop)
    assert isinstance(report.error, Interrupted)
    assert report.exit_code == ExitCode.INTERRUPTED == 130
    assert [(step.step, step.status) for step in report.steps] == [
        ("one", "changed"),
        ("two", "changed"),
    ]
    assert report.pending == ("three",)
    assert report.status == "interrupted"
    assert host.packages == {"one": "1", "two": "1"}


@dataclass(frozen=True)
class InTwo(Package):
    """A package that comes in two parts."""

    def check(self, facts: Facts, host: object) -> Outcome:
        found = super().check(facts, host)
        if not isinstance(found, Change):
            return found
        parts = (f"{self.name}-a", self.name)
        return replace(found, actions=commands(*(Command.of("install", part) for part in parts)))


def test_a_step_of_several_actions_stops_between_them() -> None:
    stop = Stop()
    host = stopping_at("two-a", stop)
    [report] = over_hosts(
        [job(host)], lambda one: provision(one, [InTwo("two")], lambda *words: None), None, stop
    )
    assert [(step.status, step.actions) for step in report.steps] == [
        ("interrupted", ("install two-a",))
    ]
    assert "two" not in host.packages


def test_what_still_runs_on_the_host_is_named_and_left_alone() -> None:
    stop, release = Stop(), threading.Event()
    host = ScriptedHost()

    def install(command: Command) -> Result:
        stop.ask()
        release.wait(10)
        return Result(command, 0)

    host.answers["install"] = install
    try:
        [report] = over_hosts([job(host)], work, AT_ONCE, stop)
    finally:
        release.set()
    assert report.error is not None
    assert "still running on the host, which finishes it: sudo install one" in report.error.message
    assert [(step.step, step.status) for step in report.steps] == [("one", "interrupted")]
    assert report.pending == ("two", "three")


def test_hosts_that_were_not_started_are_reported_as_such() -> None:
    stop = Stop()
    jobs = [job(stopping_at("one", stop)), job(ScriptedHost("b")), job(ScriptedHost("c"))]
    reports = over_hosts(jobs, work, Pace(at_once=1), stop)
    assert [report.status for report in reports] == ["interrupted", "not-started", "not-started"]
    assert [report.exit_code for report in reports] == [130, 130, 130]
    assert all(report.steps == () for report in reports[1:])


def test_a_host_has_its_own_deadline_and_the_others_go_on() -> None:
    release = threading.Event()
    slow = ScriptedHost("slow")

    def install(command: Command) -> Result:
        release.wait(10)
        return Result(command, 0)

    slow.answers["install"] = install
    try:
        reports = over_hosts(
            [job(slow), job(ScriptedHost("quick"))], work, Pace(timeout_s=0.3, grace_s=0.0)
        )
    finally:
        release.set()
    assert isinstance(reports[0].error, OutOfTime)
    assert "not done within 0.3 s (--timeout)" in reports[0].error.message
    assert [report.exit_code for report in reports] == [1, 0]
    assert reports[0].status == "failed"


def test_a_deadline_counts_from_the_hosts_own_start() -> None:
    now = [0.0]
    stop = Stop(clock=lambda: now[0])
    now[0] = 100.0
    late = stop.within(10)
    assert not late.is_asked
    now[0] = 109.9
    late.check()
    now[0] = 110.0
    with pytest.raises(OutOfTime):
        late.check()
    assert not stop.is_asked


def test_waiting_ends_when_asked_to_stop() -> None:
    stop = Stop()
    threading.Timer(0.05, stop.ask).start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        stop.within(None).wait(30)
    assert time.monotonic() - started < 10


def test_serial_works_in_order_and_never_on_more_than_that() -> None:
    order: list[str] = []
    at_work: set[str] = set()
    most: list[int] = []

    def one_host(one: Job) -> HostReport:
        order.append(one.host.name)
        at_work.add(one.host.name)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.discard(one.host.name)
        return HostReport(one.host.name)

    jobs = [job(ScriptedHost(name)) for name in "abcde"]
    reports = over_hosts(jobs, one_host, Pace(at_once=1))
    assert order == list("abcde") == [report.host for report in reports]
    assert max(most) == 1
    over_hosts(jobs, one_host, Pace(at_once=2))
    assert max(most) == 2


def test_hosts_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def meet(one: Job) -> HostReport:
        meeting.wait()
        return HostReport(one.host.name)

    reports = over_hosts([job(ScriptedHost(name)) for name in "abc"], meet)
    assert [report.host for report in reports] == ["a", "b", "c"]
    assert over_hosts([], meet) == ()


def test_one_bad_host_neither_stops_nor_hides_the_others() -> None:
    def unreachable(command: Command) -> Result:
        raise ConnectError("no answer in time")

    jobs = [job(ScriptedHost(name)) for name in ("a", "b", "c")]
    jobs[1] = job(ScriptedHost("b"), FakeTransport(unreachable, host_name="b"))
    reports = over_hosts(jobs, work)
    assert [report.host for report in reports] == ["a", "b", "c"]
    assert [report.exit_code for report in reports] == [0, 1, 0]
    assert isinstance(reports[1].error, ConnectError)
    assert reports[1].error.host == "b"


@pytest.mark.parametrize("code", [StepFailed, None])
def test_fail_fast_starts_no_host_after_a_failure(code: type[StepFailed] | None) -> None:
    started: list[str] = []

    def fail_at_b(one: Job) -> HostReport:
        started.append(one.host.name)
        bad = code is not None and one.host.name == "b"
        return HostReport(one.host.name, error=StepFailed("no") if bad else None)

    jobs = [job(ScriptedHost(name)) for name in "abcd"]
    reports = over_hosts(jobs, fail_at_b, Pace(at_once=1, fail_fast=True))
    if code is None:
        assert started == list("abcd")
        return
    assert started == ["a", "b"]
    assert [report.status for report in reports] == ["ok", "failed", "not-started", "not-started"]
    assert "because of b (--fail-fast)" in str(reports[2].error)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_once_and_ends_the_program_the_second_time(number: int) -> None:
    stop = Stop()
    told: list[str] = []
    before = signal.getsignal(number)
    with stopping_on_signals(stop, told.append):
        os.kill(os.getpid(), number)
        assert stop.is_asked
        assert len(told) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
