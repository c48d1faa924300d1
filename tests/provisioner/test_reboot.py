"""The reboot transaction on a scripted host: who forbids it, what ends it, what a next run sees."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scripted_host import OS_TEXT, ScriptedHost

from inventory import Host
from provisioner import pending
from provisioner.actions import commands
from provisioner.command import Command, Result
from provisioner.errors import (
    AuthError,
    BlockedError,
    CommandFailed,
    ConnectError,
    ConnectionLost,
    HostKeyChanged,
    Interrupted,
    RebootPending,
    RebootRequired,
    RigupError,
    StepFailed,
)
from provisioner.facts import OS, PACKAGES, Facts
from provisioner.facts.pending import PATH, PendingReboot
from provisioner.host_job import Job
from provisioner.reboot import ASK, HOLD_PATH, IN_USE, RebootPolicy
from provisioner.report import HostReport
from provisioner.runner import provision
from provisioner.steps import Change, Outcome, Satisfied, Step
from provisioner.transport.fake import FakeTransport

GO = RebootPolicy(allowed=True)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
    return tmp_path


@dataclass
class Machine(ScriptedHost):
    """Reboots when asked, ``down_for`` seconds of its own clock long; None: never comes back.

    ``while_down``: what a connection meets meanwhile. ``works_from``: the boot (1 is the first)
    from which the wanted thing works.
    """

    now: float = 1000.0
    boot: int = 1
    works_from: int = 2
    down_for: float | None = 5.0
    goes_down: bool = True
    while_down: RigupError = field(default_factory=lambda: ConnectError("no answer in time"))
    record: str = ""
    asked: int = 0
    up_at: float = 0.0
    holds: list[str] = field(default_factory=list)
    refuses: tuple[int, bytes] | None = None

    def __post_init__(self) -> None:
        self.answers |= {"cat": self._boot_id, "rm": self._forget}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    def answer(self, command: Command) -> Result:
        if self.now < self.up_at:
            raise self.while_down
        self.sections["os"] = OS_TEXT.replace("BOOT=b", f"BOOT=boot{self.boot}")
        self.sections["pending"] = self.record
        self.sections.setdefault("occupants", "boot|boot1\n")
        if command.words[:2] == ("sh", "-c") and "systemctl reboot" in command.words[2]:
            return self._reboot(command)
        if HOLD_PATH in command.words and command.words[0] == "sh":
            assert command.sudo
            self.holds.append("released" if "rm -f" in command.words[2] else "set")
            return Result(command, 0)
        return super().answer(command)

    def _reboot(self, command: Command) -> Result:
        assert command.sudo
        if self.refuses is not None:
            return Result(command, *self.refuses)
        self.asked += 1
        self.record = command.words[5]
        if self.goes_down:
            self.boot += 1
            self.up_at = self.now + (1e9 if self.down_for is None else self.down_for)
        return Result(command, 0)

    def _boot_id(self, command: Command) -> Result:
        return Result(command, 0, f"boot{self.boot}\n".encode())

    def _forget(self, command: Command) -> Result:
        assert command.words == ("rm", "-f", PATH, HOLD_PATH)
        self.record = ""
        return Result(command, 0)


@dataclass(frozen=True)
class Module:
    """A step that works from a certain boot on; ``actions`` are tried on every other look."""

    machine: Machine
    name: str = "driver"
    actions: tuple[str, ...] = ()

    def check(self, facts: Facts, host: Host) -> Outcome:
        if int(facts[OS].boot_id.removeprefix("boot")) >= self.machine.works_from:
            return Satisfied("the module is loaded")
        todo = commands(*(Command.of("install", word, sudo=True) for word in self.actions))
        return Change("another module is loaded", todo, needs_reboot=True)


def run(
    machine: Machine,
    policy: RebootPolicy = GO,
    *steps: Step,
    sleep: Callable[[float], None] | None = None,
) -> tuple[HostReport, list[str]]:
    told: list[str] = []
    job = Job(Host("gpu01", "gpu01"), machine.transport(), reboots=policy)
    report = provision(
        job,
        steps or (Module(machine),),
        lambda *words: told.append(" ".join(words)),
        sleep=sleep or machine.sleep,
        clock=machine.clock,
    )
    return report, told


def test_one_reboot_completes_the_step_and_the_run_goes_on() -> None:
    machine = Machine()
    report, told = run(machine, GO, Module(machine, actions=("nvidia-open",)))
    assert report.error is None
    assert (report.status, report.reboots, machine.asked) == ("changed", 1, 1)
    assert report.steps[0].actions == ("sudo install nvidia-open", "reboot")
    assert report.proofs, "verified after the reboot"
    assert any("up again after" in line for line in told)
    assert machine.record == ""
    assert pending.recall("gpu01") is None


def test_without_leave_the_host_stays_up_and_the_remedy_names_the_option() -> None:
    machine = Machine()
    report, _ = run(machine, RebootPolicy())
    assert isinstance(report.error, RebootRequired)
    assert "--reboot" in str(report.error.remedy)
    assert machine.asked == 0


def test_a_person_is_told_who_would_be_cut_off_and_may_refuse() -> None:
    machine = Machine()
    machine.sections["occupants"] = (
        "boot|boot1\nsession|Name=ann TTY=pts/0\nsession|Name=rigup TTY=\n"
        "container|/jupyter|nvidia null null\ncontainer|/db|runc null []\n"
    )
    asked: list[tuple[str, str]] = []

    def refuse(host: str, warning: str) -> bool:
        asked.append((host, warning))
        return False

    report, _ = run(machine, RebootPolicy(allowed=True, agree=refuse))
    assert isinstance(report.error, RebootRequired)
    assert asked == [("gpu01", "ann is logged in; container jupyter may use GPUs")]
    assert machine.asked == 0


@pytest.mark.parametrize(
    ("section", "text", "named"),
    [
        (
            "gpu",
            "smi=1\ngpu|0, GPU-a, 580.1, 10, 9.0, NVIDIA H100\n"
            "app|GPU-a, 4242\nps|4242 ann python3\n",
            "GPU process 4242 (python3) of ann",
        ),
        (
            "occupants",
            "boot|boot1\n"
            'job|ann|/home/ann/.rigup/jobs/train-1/state.json|{"state":"running","boot_id":"boot1"}',
            "job train-1 of ann",
        ),
        ("occupants", "garbage", "who uses the host is unknown"),
    ],
)
def test_a_host_in_use_is_not_rebooted(section: str, text: str, named: str) -> None:
    machine = Machine()
    machine.sections[section] = text
    report, _ = run(machine)
    assert isinstance(report.error, BlockedError)
    assert named in report.error.message
    assert machine.asked == 0
    assert pending.recall("gpu01") is None


def test_a_job_of_an_earlier_boot_forbids_nothing() -> None:
    machine = Machine()
    machine.sections["occupants"] = (
        "boot|boot1\n"
        'job|ann|/home/ann/.rigup/jobs/train-1/state.json|{"state":"running","boot_id":"boot0"}\n'
    )
    report, _ = run(machine)
    assert report.error is None
    assert machine.asked == 1


@pytest.mark.parametrize(
    "row",
    ["job|ann|/home/ann/.rigup/jobs/train-2/state.json|{cut", "unread|ann|/home/ann/jobs/train-2/"],
)
def test_a_job_whose_state_cannot_be_read_may_run(row: str) -> None:
    machine = Machine()
    machine.sections["occupants"] = f"boot|boot1\n{row}\n"
    report, _ = run(machine)
    assert isinstance(report.error, BlockedError)
    assert "job train-2 of ann (its state cannot be read)" in report.error.message
    assert machine.asked == 0


RUNNING = (
    "boot|boot1\n"
    'job|ann|/home/ann/.rigup/jobs/train-1/state.json|{"state":"running","boot_id":"boot1"}\n'
)


def test_a_job_that_started_while_the_question_was_open_is_not_cut_off() -> None:
    machine = Machine()

    def agree(host: str, warning: str) -> bool:
        machine.sections["occupants"] = RUNNING
        return True

    report, _ = run(machine, RebootPolicy(allowed=True, agree=agree))
    assert isinstance(report.error, BlockedError)
    assert "job train-1 of ann" in report.error.message
    assert machine.asked == 0
    assert machine.holds == ["set", "released"]


def test_no_job_starts_between_the_last_look_and_the_reboot() -> None:
    machine = Machine()
    run(machine)
    assert machine.asked == 1
    assert machine.holds == ["set"]  # the boot empties /run


@pytest.mark.parametrize(
    ("refuses", "error", "told"),
    [
        ((IN_USE, b"4711 4712 \n"), BlockedError, "GPU processes have just started: 4711 4712"),
        ((1, b""), CommandFailed, "1"),
    ],
)
def test_the_very_script_that_reboots_looks_once_more(
    refuses: tuple[int, bytes], error: type[Exception], told: str
) -> None:
    machine = Machine(refuses=refuses)
    report, _ = run(machine)
    assert isinstance(report.error, error)
    assert told in report.error.message
    assert machine.holds == ["set", "released"]
    assert pending.recall("gpu01") is None


@pytest.mark.parametrize(("apps", "code"), [("4711\n4712\n", IN_USE), ("No devices\n", 0), ("", 0)])
def test_the_script_that_reboots_asks_the_driver(tmp_path: Path, apps: str, code: int) -> None:
    for name, body in (("nvidia-smi", f"printf %s '{apps}'; exit 9"), ("setsid", "echo down")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    record = tmp_path / "below" / "record"
    done = subprocess.run(
        ["sh", "-c", ASK, "sh", str(record), "{}"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
    )
    assert done.returncode == code, done.stderr
    assert record.exists() == (code == 0)
    assert done.stdout == (b"4711 4712 \n" if code else b"")


@pytest.mark.parametrize(
    "meanwhile",
    [
        ConnectError("no answer"),
        ConnectionLost("the connection broke"),
        AuthError("System is booting up. Unprivileged users are not permitted to log in yet."),
    ],
)
def test_no_answer_is_expected_while_it_is_down(meanwhile: RigupError) -> None:
    report, _ = run(Machine(down_for=200, while_down=meanwhile))
    assert report.error is None


def test_another_host_key_after_the_reboot_is_refused_at_once() -> None:
    machine = Machine(down_for=None, while_down=HostKeyChanged("THE HOST KEY HAS CHANGED"))
    report, _ = run(machine)
    assert isinstance(report.error, HostKeyChanged)
    assert machine.now < 1010


def test_the_link_may_break_before_the_answer() -> None:
    class Abrupt(Machine):
        def _reboot(self, command: Command) -> Result:
            super()._reboot(command)
            raise ConnectionLost("the connection broke")

    report, _ = run(Abrupt())
    assert report.error is None


def test_a_host_that_does_not_come_back_is_pending_and_the_next_run_says_since_when() -> None:
    machine = Machine(down_for=None)
    report, _ = run(machine, RebootPolicy(allowed=True, timeout_s=120))
    assert isinstance(report.error, RebootPending)
    assert "not up again within 120 s (no answer in time)" in report.error.message
    assert 1120 <= machine.now < 1135
    assert report.exit_code == 3

    again, _ = run(machine, RebootPolicy())
    assert isinstance(again.error, RebootPending)
    assert "has not come back yet" in again.error.message
    assert "(step driver)" in again.error.message


def test_a_next_run_with_leave_waits_for_the_rest_of_the_time() -> None:
    machine = Machine(down_for=300)
    first, _ = run(machine, RebootPolicy(allowed=True, timeout_s=120))
    assert isinstance(first.error, RebootPending)
    report, told = run(machine, RebootPolicy(allowed=True, timeout_s=600))
    assert report.error is None
    assert report.steps[0].status == "ok"
    assert (machine.asked, machine.record) == (1, "")
    assert any("the host came back from it" in line for line in told)
    assert pending.recall("gpu01") is None


def test_another_client_learns_it_from_the_host(home: Path) -> None:
    machine = Machine(down_for=300)
    run(machine, RebootPolicy(allowed=True, timeout_s=120))
    pending.forget("gpu01")
    machine.now += 1000
    report, told = run(machine, RebootPolicy())
    assert report.error is None
    assert any("(step driver): the host came back from it" in line for line in told)
    assert machine.record == ""


def test_a_host_that_answers_with_the_same_boot_id_did_not_reboot() -> None:
    machine = Machine(goes_down=False)
    report, _ = run(machine, RebootPolicy(allowed=True, timeout_s=60))
    assert isinstance(report.error, RebootPending)
    assert "same boot id" in report.error.message
    again, told = run(machine, RebootPolicy())
    assert any("the host did not reboot" in line for line in told)
    assert isinstance(again.error, RebootRequired)
    assert machine.record == ""


def test_a_client_that_was_killed_while_the_host_went_down_waits_for_it() -> None:
    machine = Machine(goes_down=False)
    asked = PendingReboot("driver", "boot1", machine.now)
    machine.record = asked.to_json()
    naps = itertools.count()

    def sleep(seconds: float) -> None:
        machine.now += seconds
        if next(naps) == 3:
            machine.boot = 2

    report, told = run(machine, GO, sleep=sleep)
    assert report.error is None
    assert machine.asked == 0
    assert any("waiting for it" in line for line in told)


def test_a_step_that_wants_a_second_reboot_is_an_error_that_names_it() -> None:
    machine = Machine(works_from=9)
    report, _ = run(machine)
    assert isinstance(report.error, StepFailed)
    assert "driver still needs a reboot after one" in report.error.message
    assert machine.asked == 1


def test_a_loop_over_a_killed_client_is_one_too() -> None:
    machine = Machine(works_from=9, boot=2)
    machine.record = PendingReboot("driver", "boot1", machine.now - 500).to_json()
    report, _ = run(machine)
    assert isinstance(report.error, StepFailed)
    assert "after one" in report.error.message
    assert machine.asked == 0


def test_three_reboots_in_a_run_are_the_most() -> None:
    machine = Machine(works_from=2)

    @dataclass(frozen=True)
    class AtBoot:
        wanted: int

        @property
        def name(self) -> str:
            return f"step{self.wanted}"

        def check(self, facts: Facts, host: Host) -> Outcome:
            if machine.boot >= self.wanted:
                return Satisfied("there")
            return Change("not yet", (), needs_reboot=True)

    report, _ = run(machine, GO, *(AtBoot(boot) for boot in (2, 3, 4, 5)))
    assert isinstance(report.error, StepFailed)
    assert "step5" in report.error.message
    assert "step2, step3, step4" in report.error.message
    assert machine.asked == 3


def test_what_is_to_do_after_the_boot_is_done_too() -> None:
    """The same actions as before the reboot may help after it: a module that can load now."""
    machine = Machine()

    class Loaded:
        name = "driver"

        def check(self, facts: Facts, host: Host) -> Outcome:
            if machine.boot == 2 and "module" in facts[PACKAGES].versions:
                return Satisfied("loaded")
            if machine.boot == 1:
                machine.packages.pop("module", None)
            return Change("not loaded", commands(Command.of("install", "module")), True)

    report, _ = run(machine, GO, Loaded())
    assert report.error is None
    assert report.steps[0].actions == ("install module", "reboot", "install module")


def test_stopped_while_waiting_leaves_the_record_for_the_next_run() -> None:
    machine = Machine(down_for=None)

    def stop(seconds: float) -> None:
        if seconds > 0 and machine.asked:
            raise Interrupted("stopped as you asked")

    report, _ = run(machine, GO, sleep=stop)
    assert report.exit_code == 130
    assert json.loads(machine.record)["boot_id"] == "boot1"
    assert pending.recall("gpu01") is not None


def test_a_yes_after_ctrl_c_reboots_nothing() -> None:
    machine = Machine()
    asked: list[str] = []

    def agree(host: str, warning: str) -> bool:
        asked.append(host)
        return True

    def check(seconds: float) -> None:
        if asked:
            raise Interrupted("stopped as you asked")

    report, _ = run(machine, RebootPolicy(allowed=True, agree=agree), sleep=check)
    assert asked == ["gpu01"]
    assert report.exit_code == 130
    assert machine.asked == 0
    assert pending.recall("gpu01") is None


def test_a_host_that_refuses_to_reboot_leaves_no_record() -> None:
    class Refusing(Machine):
        def _reboot(self, command: Command) -> Result:
            return Result(command, 1, b"", b"sudo: no")

    report, _ = run(Refusing())
    assert report.exit_code == 1
    assert pending.recall("gpu01") is None


def test_every_probe_uses_a_fresh_connection() -> None:
    machine = Machine(down_for=30)
    closed: list[float] = []

    class Closing(FakeTransport):
        def close(self) -> None:
            closed.append(machine.now)

    job = Job(Host("gpu01", "gpu01"), Closing(machine.answer), reboots=GO)
    provision(
        job, (Module(machine),), lambda *words: None, sleep=machine.sleep, clock=machine.clock
    )
    assert len(set(closed)) > 3
