"""Check, apply, check again, verify: what a host's report says however it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_host import BUSY, Package, ScriptedHost

from inventory import Host
from provisioner import host_lock
from provisioner.actions import commands
from provisioner.command import Command, Result
from provisioner.errors import (
    CommandFailed,
    ConnectError,
    ConnectionLost,
    ExitCode,
    RebootRequired,
    StepFailed,
)
from provisioner.facts import PACKAGES, Facts
from provisioner.host_job import Job
from provisioner.report import HostReport
from provisioner.runner import check_only, provision
from provisioner.steps import Blocked, Change, Outcome, Satisfied
from provisioner.steps.base import Step
from provisioner.transport.fake import FakeTransport

Told = list[tuple[str, str, str]]


def job(host: ScriptedHost, transport: FakeTransport | None = None) -> Job:
    return Job(Host(host.name, host.name), transport or host.transport())


def run(host: ScriptedHost, *steps: Step) -> tuple[HostReport, FakeTransport, Told]:
    transport = host.transport()
    told: Told = []
    report = provision(job(host, transport), steps, lambda *words: told.append(words))
    return report, transport, told


def statuses(report: HostReport) -> list[tuple[str, str]]:
    return [(step.step, step.status) for step in report.steps]


def changed_commands(transport: FakeTransport) -> list[str]:
    """What was run beside reading facts and proving."""
    return [str(c) for c in transport.commands if c.words[0] not in ("sh", "docker")]


def test_a_fresh_host_converges_and_is_proven() -> None:
    host = ScriptedHost(packages={"one": "1"})
    report, transport, told = run(host, Package("one"), Package("two"), Package("three"))
    assert statuses(report) == [("one", "ok"), ("two", "changed"), ("three", "changed")]
    assert (report.changed, report.exit_code, report.error) == (2, ExitCode.DONE, None)
    assert changed_commands(transport) == ["sudo install two", "sudo install three"]
    assert report.steps[1].actions == ("sudo install two",)
    assert [proof.simulated for proof in report.proofs] == [False]
    assert ("gpu01", "two", "changing: two is missing") in told


def test_the_second_run_changes_nothing() -> None:
    host = ScriptedHost()
    steps = (Package("one"), Package("two", needs_reboot=True))
    run(host, *steps)
    report, transport, _ = run(host, *steps)
    assert (report.changed, report.exit_code) == (0, ExitCode.DONE)
    assert changed_commands(transport) == []


def test_facts_are_read_anew_after_every_change() -> None:
    _, transport, _ = run(ScriptedHost(), Package("one"), Package("two"))
    commands = [c for c in transport.commands if host_lock.PATH not in c.words]
    kinds = ["facts" if c.words == ("sh", "-s") else c.words[0] for c in commands]
    assert kinds[:5] == ["facts", "install", "facts", "install", "facts"]


def test_check_only_shows_the_whole_plan_and_changes_nothing() -> None:
    host = ScriptedHost()
    transport = host.transport()
    steps = (Package("one"), Package("two", blocked="no"), Package("three"))
    report = check_only(job(host, transport), steps, lambda *words: None)
    assert statuses(report) == [
        ("one", "would-change"),
        ("two", "blocked"),
        ("three", "would-change"),
    ]
    assert report.steps[0].actions == ("sudo install one",)
    assert (report.changed, report.exit_code) == (2, ExitCode.BLOCKED)
    assert len(transport.commands) == 1
    assert report.proofs == ()


def test_a_step_that_does_not_converge_is_an_error() -> None:
    report, _, _ = run(ScriptedHost(), Package("one"), Package("two", action="pretend"))
    assert isinstance(report.error, StepFailed)
    assert "two was applied but the host still is not as wanted: two is missing" in str(
        report.error
    )
    assert report.error.host == "gpu01"
    assert report.exit_code == ExitCode.FAILED
    assert statuses(report)[0] == ("one", "changed"), "what was done is not lost"
    assert report.proofs == ()


def test_a_step_that_only_a_reboot_completes_waits_for_a_person() -> None:
    steps = (Package("one", action="pretend", needs_reboot=True), Package("two"))
    report, transport, _ = run(ScriptedHost(), *steps)
    assert isinstance(report.error, RebootRequired)
    assert "only a reboot" in report.error.message
    assert "reboot" in str(report.error.remedy)
    assert report.exit_code == ExitCode.BLOCKED == 3
    assert changed_commands(transport) == ["sudo pretend one"], "later steps wait too"


def test_a_blocked_step_stops_the_host_without_touching_it() -> None:
    steps = (Package("one", blocked="Secure Boot waits for a key"), Package("two"))
    report, transport, told = run(ScriptedHost(), *steps)
    assert statuses(report) == [("one", "blocked")]
    assert report.steps[0].what_to_do == "ask somebody"
    assert (report.exit_code, report.error, report.proofs) == (ExitCode.BLOCKED, None, ())
    assert report.pending == ("two",)
    assert changed_commands(transport) == []
    assert all("Secure Boot" in text for _, step, text in told if step == "one")


def test_a_fault_of_the_machine_is_a_failure_and_waits_for_nobody() -> None:
    class Broken:
        name = "driver"

        def check(self, facts: Facts, host: Host) -> Outcome:
            return Blocked("no GPU on the bus answers", "reseat the card", fault=True)

    report, transport, _ = run(ScriptedHost(), Broken(), Package("two"))
    assert statuses(report) == [("driver", "failed")]
    assert (report.exit_code, report.status) == (ExitCode.FAILED, "failed")
    assert report.steps[0].what_to_do == "reseat the card"
    assert report.pending == ("two",)
    assert changed_commands(transport) == []


def test_a_command_that_fails_keeps_the_finished_steps() -> None:
    host = ScriptedHost(
        answers={"broken": lambda c: Result(c, 100, b"", b"E: Unable to locate package two\n")}
    )
    report, transport, told = run(
        host, Package("one"), Package("two", action="broken"), Package("three")
    )
    assert isinstance(report.error, CommandFailed)
    assert "Unable to locate package two" in str(report.error)
    assert "`sudo broken two` exited with 100" in str(report.error)
    assert statuses(report)[0] == ("one", "changed")
    assert "sudo install three" not in changed_commands(transport)
    assert [step for _, step, _ in told].count("error") == 1


def test_a_link_that_breaks_in_the_middle_keeps_the_finished_steps() -> None:
    def lost(command: Command) -> Result:
        raise ConnectionLost("the connection broke")

    report, _, _ = run(
        ScriptedHost(answers={"lost": lost}), Package("one"), Package("two", action="lost")
    )
    assert isinstance(report.error, ConnectionLost)
    assert report.error.host == "gpu01", "the report says which host, whoever raised it"
    assert statuses(report) == [("one", "changed"), ("two", "failed")]
    assert report.steps[1].actions == ("sudo lost two",), "what was begun"


def test_the_transport_is_closed_however_it_ends() -> None:
    class Closing(FakeTransport):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    def refused(command: Command) -> Result:
        raise ConnectError("refused")

    for answer in (ScriptedHost().answer, refused):
        transport = Closing(answer)
        provision(job(ScriptedHost(), transport), [Package("one")], lambda *words: None)
        assert transport.closed == 1


def test_a_fact_that_cannot_be_read_blocks_what_needs_it_and_nothing_else() -> None:
    host = ScriptedHost(sections={"gpu": "pci|cut", "os": "no id here"})
    report, _, _ = run(host, Package("one", blocked="stop here"))
    assert statuses(report) == [("one", "blocked")]
    assert report.error is None


@pytest.mark.parametrize(
    ("sections", "simulated"),
    [
        ({}, False),
        ({"gpu": "smi=1\ngpu|0, GPU-a, 580.1, 10, 9.0, SIMULATED NVIDIA H100\n"}, True),
        ({"gpu": "smi=1\ngpu|0, GPU-a, 580.1, 10, 9.0, NVIDIA H100\n"}, False),
        ({"os": "ID=debian\nRIGUP_KERNEL=6\nRIGUP_ARCH=x\nRIGUP_BOOT=b\nRIGUP_PRACTICE=1\n"}, True),
    ],
)
def test_practice_hosts_are_marked_in_the_report(sections: dict[str, str], simulated: bool) -> None:
    report, _, _ = run(ScriptedHost(sections=sections), Package("one", blocked="enough"))
    assert report.simulated == simulated


def test_what_only_shows_after_the_first_actions_is_done_too() -> None:
    class Loaded:
        """A package whose module must be loaded once it is there."""

        name = "driver"

        def check(self, facts: Facts, host: Host) -> Outcome:
            versions = facts[PACKAGES].versions
            for wanted in ("files", "module"):
                if wanted not in versions:
                    install = commands(Command.of("install", wanted))
                    return Change(f"{wanted} is missing", install, needs_reboot=True)
            return Satisfied("loaded")

    report, transport, _ = run(ScriptedHost(), Loaded())
    assert changed_commands(transport) == ["install files", "install module"]
    assert (report.changed, report.exit_code) == (1, ExitCode.DONE)
    assert len(report.steps[0].actions) == 2


def test_a_package_manager_at_work_is_waited_for() -> None:
    host = ScriptedHost(sections={"packages": BUSY})
    transport = host.transport()
    told: list[str] = []
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            del host.sections["packages"]

    report = provision(
        job(host, transport), (Package("one"),), lambda *words: told.append(words[2]), sleep=nap
    )
    assert report.exit_code == ExitCode.DONE
    assert len(naps) == 3
    assert "another package manager is at work, waiting" in told


def test_a_package_manager_that_never_ends_is_an_error() -> None:
    host = ScriptedHost(sections={"packages": BUSY})
    report = provision(
        job(host, host.transport()), (Package("one"),), lambda *words: None, sleep=lambda _: None
    )
    assert isinstance(report.error, StepFailed)
    assert "another package manager" in report.error.message


def test_later_steps_of_a_plan_are_said_to_be_judged_before_the_changes() -> None:
    host = ScriptedHost(packages={"one": "1"})
    steps = (Package("one"), Package("two", needs_reboot=True), Package("three"))
    report = check_only(job(host), steps, lambda *words: None)
    assert [step.provisional for step in report.steps] == [False, False, True]
    assert [step.needs_reboot for step in report.steps] == [False, True, False]


@pytest.mark.parametrize(("installed", "proven"), [({"left": "1"}, True), ({}, False)])
def test_a_host_is_proven_where_what_was_left_out_is_there_anyway(
    installed: dict[str, str], proven: bool
) -> None:
    host = ScriptedHost(packages=dict(installed))
    one = replace(job(host), left_out=(Package("left"),))
    report = provision(one, (Package("one"),), lambda *words: None)
    assert bool(report.proofs) == proven
    assert report.unproven == (
        "" if proven else "not proven: left was left out and is not in place"
    )
    assert report.exit_code == ExitCode.DONE
