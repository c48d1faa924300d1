"""A verdict names what a job has left running."""

from __future__ import annotations

import os
import subprocess

import pytest

from remote_agent import cgroup
from remote_agent import leftovers as module
from remote_agent.leftovers import NO_CGROUP, naming_leftovers, services_since
from remote_agent.processes import identify
from remote_agent.protocol.job import Verdict

SAID = Verdict("stopped-by-user", evidence="a stop was asked for")


class Tree:
    def __init__(self, *left):
        self._left = list(left)

    def described(self):
        return self._left


@pytest.fixture
def child():
    process = subprocess.Popen(["sleep", "1000"])
    yield identify(process.pid)
    process.kill()
    process.wait()


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A user's manager as its files show it; ``unit(name, pid)`` is a unit it runs."""
    slice_ = tmp_path / "user.slice" / "user-1000.slice"
    scope = slice_ / "session-3.scope"
    scope.mkdir(parents=True)
    transient = tmp_path / "transient"
    transient.mkdir()
    monkeypatch.setattr(cgroup, "own_directories", lambda: iter([str(scope)]))
    monkeypatch.setattr(module, "_transient_units", lambda: str(transient))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def unit(name, pid, *, is_transient=True):
        directory = slice_ / "user@1000.service" / "app.slice" / name
        directory.mkdir(parents=True)
        (directory / "cgroup.procs").write_text(f"{pid}\n")
        if is_transient:
            (transient / name).touch()

    return unit


def test_nothing_left_changes_nothing(manager):
    assert naming_leftovers(SAID, Tree(), 0, unsure=False) == SAID


def test_what_could_not_be_ended_is_named():
    found = naming_leftovers(SAID, Tree("sleep (pid 7)", "sudo (pid 8)"), 0, unsure=False)
    assert found.evidence.startswith(
        "a stop was asked for; could not be ended: sleep (pid 7), sudo"
    )
    assert found.cause == SAID.cause


def test_a_long_list_is_cut():
    many = [f"sleep (pid {number})" for number in range(1000)]
    assert "and 992 more" in naming_leftovers(SAID, Tree(*many), 0, unsure=False).evidence


def test_a_lost_supervisor_without_cgroup_is_no_certainty():
    found = naming_leftovers(Verdict("success", exit_code=0), Tree(), 0, unsure=True)
    assert found.evidence == NO_CGROUP


def test_a_service_that_systemd_run_started_meanwhile_is_named(manager, child):
    manager("run-u12.service", child.pid)
    assert services_since(child.start_ticks) == [("run-u12.service", [child.pid])]
    said = naming_leftovers(SAID, Tree(), child.start_ticks, unsure=False).evidence
    assert f"run-u12.service while the job ran, and it still runs: sleep (pid {child.pid})" in said
    assert "`systemctl --user stop run-u12.service`" in said


def test_a_service_from_before_the_job_is_not_its(manager, child):
    manager("run-u12.service", child.pid)
    assert services_since(child.start_ticks + 1) == []


@pytest.mark.parametrize("name", ["rigup-job-a-01234567.scope", "app-x.service", "run-1.timer"])
def test_units_of_others_are_not_named(manager, child, name):
    manager(name, child.pid)
    assert services_since(0) == []


def test_a_service_with_a_file_of_its_own_is_not_of_systemd_run(manager, child):
    manager("notebook.service", child.pid, is_transient=False)
    assert services_since(0) == []
