"""Real reboots of practice hosts: a new boot id, the same step goes on, and the proofs follow."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lab_program import LabHostShell, Rigup, wait_for

from inventory import Host, load_inventory
from provisioner.errors import BlockedError, ExitCode, RebootPending, RebootRequired
from provisioner.facts import Facts, gather
from provisioner.facts.base import Fact, Output
from provisioner.facts.pending import PATH
from provisioner.host_job import Job
from provisioner.reboot import HOLD_PATH, RebootPolicy
from provisioner.report import HostReport
from provisioner.runner import provision
from provisioner.steps import Change, Outcome, Satisfied
from provisioner.transport.ssh import SshTransport
from remote_agent.reboot_hold import WAITING

pytestmark = pytest.mark.e2e

MARKER = "/run/only-a-reboot-removes-this"
"""Below /run: memory, which a boot empties."""
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"

Shell = Callable[[str], LabHostShell]


def _present(output: Output) -> bool:
    return output.text.strip() == "yes"


@dataclass(frozen=True)
class Marker:
    """A step that only a reboot satisfies: the marker must be gone."""

    transport: SshTransport
    name: str = "marker"

    def check(self, facts: Facts, host: Host) -> Outcome:
        fact = Fact("marker", f"[ ! -e {MARKER} ] || echo yes", _present)
        if gather(self.transport, (fact,))[fact]:
            return Change("the marker is there", (), needs_reboot=True)
        return Satisfied("no marker")


@pytest.fixture
def lab_host(rigup: Rigup, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Host]:
    monkeypatch.setenv("RIGUP_HOME", str(rigup.home))
    inventory = load_inventory(rigup.home / "lab" / "hosts.yaml")
    return lambda name: replace(inventory.hosts[name], connect_timeout_s=5.0)


Told = list[str]


def restart_policy(host: LabHostShell, policy: str) -> None:
    """``no``: a host that goes down stays down, until it is started."""
    words = ["docker", "update", "--restart", policy, host.container]
    subprocess.run(words, check=True, capture_output=True)


def run(host: Host, policy: RebootPolicy, told: Told | None = None) -> HostReport:
    transport = SshTransport(host)
    job = Job(host, transport, reboots=policy)
    lines = told if told is not None else []
    return provision(job, (Marker(transport),), lambda *words: lines.append(" ".join(words)))


@pytest.mark.parametrize("name", ["lab01", "lab02"])
def test_a_host_reboots_and_the_run_goes_on(provisioned, lab_host, shell, name: str) -> None:
    shell(name).run(f"touch {MARKER}")
    before = shell(name).run(BOOT_ID)

    refused = run(lab_host(name), RebootPolicy())
    assert isinstance(refused.error, RebootRequired)
    assert "--reboot" in str(refused.error.remedy)
    assert shell(name).run(BOOT_ID) == before

    told: Told = []
    report = run(lab_host(name), RebootPolicy(allowed=True, timeout_s=120), told)
    assert report.error is None, report
    assert (report.status, report.reboots) == ("changed", 1)
    assert report.steps[0].actions == ("reboot",)
    assert report.proofs, "what was verified was verified after the reboot"
    assert any("up again after" in line for line in told)
    assert shell(name).run(BOOT_ID) != before
    assert shell(name).run(f"ls {PATH} {MARKER}", check=False) == ""
    assert shell(name).run("systemctl is-active docker").strip() == "active"


def test_a_host_in_use_is_not_rebooted(provisioned, lab_host, shell: Shell, tmp_path) -> None:
    host = shell("lab01")
    script = tmp_path / "train.py"
    script.write_text("import time\ntime.sleep(600)\n")
    words = ("train", "--script", str(script), "--host", "lab01", "--gpus", "0", "--name", "busy")
    job = provisioned.ok(*words, "--runtime", "process").out.strip()
    try:
        host.run(f"touch {MARKER}")
        before = host.run(BOOT_ID)
        report = run(lab_host("lab01"), RebootPolicy(allowed=True))
        assert isinstance(report.error, BlockedError)
        assert report.exit_code == ExitCode.BLOCKED
        assert f"job {job} of lab" in report.error.message
        assert host.run(BOOT_ID) == before
    finally:
        provisioned.ok("stop", job, "--grace", "0")
        host.run(f"rm -f {MARKER}")


def test_a_job_that_started_while_the_question_was_open_is_not_cut_off(
    provisioned, lab_host, shell: Shell, tmp_path
) -> None:
    host = shell("lab01")
    host.run(f"touch {MARKER}")
    before = host.run(BOOT_ID)
    jobs: list[str] = []

    def agree(name: str, warning: str) -> bool:
        jobs.append(start(provisioned, tmp_path, "late"))
        wait_for(lambda: state_of(provisioned, jobs[0])["state"] == "running", "the job runs")
        return True

    try:
        report = run(lab_host("lab01"), RebootPolicy(allowed=True, agree=agree))
        assert isinstance(report.error, BlockedError), report
        assert f"job {jobs[0]} of lab" in report.error.message
        assert host.run(BOOT_ID) == before
        assert host.run(f"ls {HOLD_PATH}", check=False) == "", "others may start jobs again"
    finally:
        for job in jobs:
            provisioned.ok("stop", job, "--grace", "0")
        host.run(f"rm -f {MARKER}")


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_no_job_starts_while_a_reboot_is_due_and_a_hold_ends_by_itself(
    provisioned, shell: Shell, tmp_path, gpus: str
) -> None:
    host = shell("lab01")
    host.run(f"mkdir -p /run/rigup; echo test >{HOLD_PATH}")
    job = start(provisioned, tmp_path, "held", gpus)
    try:
        wait_for(lambda: state_of(provisioned, job)["waiting_for"] == WAITING, "the reason")
        assert state_of(provisioned, job)["state"] == "queued"
        host.run(f"touch -d '11 minutes ago' {HOLD_PATH}")  # whoever set it was killed
        wait_for(lambda: state_of(provisioned, job)["state"] == "running", "the job runs")
    finally:
        host.run(f"rm -f {HOLD_PATH}")
        provisioned.ok("stop", job, "--grace", "0")


def start(rigup: Rigup, directory: Path, name: str, gpus: str = "0") -> str:
    script = directory / "train.py"
    script.write_text("import time\ntime.sleep(600)\n")
    words = ("train", "--script", str(script), "--host", "lab01", "--gpus", gpus, "--name", name)
    return rigup.ok(*words, "--runtime", "process").out.strip()


def state_of(rigup: Rigup, job: str) -> dict[str, str]:
    found: dict[str, str] = rigup.ok("describe", job, "--json").json["job"]
    return found


def test_a_host_that_stays_away_is_picked_up_by_the_next_run(
    provisioned, lab_host, shell: Shell
) -> None:
    host = shell("lab01")
    host.run(f"touch {MARKER}")
    restart_policy(host, "no")
    try:
        first = run(lab_host("lab01"), RebootPolicy(allowed=True, timeout_s=10))
        assert isinstance(first.error, RebootPending)
        assert first.exit_code == ExitCode.BLOCKED
        assert "not up again within 10 s" in first.error.message

        still_away = provisioned("provision", "--host", "lab01")
        assert still_away.code == ExitCode.BLOCKED, still_away.said
        assert "has not come back yet" in still_away.said
    finally:
        restart_policy(host, "unless-stopped")
        host.docker("start")
    deadline = time.monotonic() + 60
    while "running" not in host.run("systemctl is-system-running --wait", check=False):
        assert time.monotonic() < deadline
        time.sleep(0.5)

    told: Told = []
    report = run(lab_host("lab01"), RebootPolicy(), told)
    assert report.error is None, report
    assert report.steps[0].status == "ok"
    assert any("the host came back from it" in line for line in told)
    assert host.run(f"ls {PATH}", check=False) == ""
