"""Reboots that are refused, and one that does not come back in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from figures import measured
from guest_shell import GuestShell
from lab_program import Rigup, wait_for

from provisioner.lab.guest import Guest

pytestmark = pytest.mark.reboot

KERNEL_ONLY = ("provision", "--host", "guest01", "--only", "kernel", "--reboot", "--yes")
PATIENCE_S = 45
SHUTS_DOWN_WITHIN_S = 180


@pytest.fixture(scope="module")
def with_agent(rigup: Rigup) -> Rigup:
    rigup.ok("provision", "--host", "guest01", "--only", "agent", timeout=1800)
    return rigup


def test_a_running_job_forbids_the_reboot_and_is_named(
    with_agent: Rigup, inside: GuestShell, tmp_path: Path
) -> None:
    (tmp_path / "patient.py").write_text("import time\ntime.sleep(7200)\n")
    boot_id = inside.boot_id
    words = ("--script", "patient.py", "--host", "guest01", "--runtime", "process", "--gpus", "0")
    job = with_agent.ok("train", *words, cwd=tmp_path).out.strip()
    wait_for(lambda: state(with_agent, job) == "running", "the job", seconds=120)

    refused = with_agent(*KERNEL_ONLY, timeout=1800)
    assert refused.code == 3, refused.said
    assert "in use" in refused.said
    assert job in refused.said
    assert inside.boot_id == boot_id
    assert state(with_agent, job) == "running"
    with_agent.ok("stop", job)


def test_a_host_that_stays_away_is_told_and_picked_up_by_the_next_run(
    with_agent: Rigup, guest: Guest, inside: GuestShell
) -> None:
    boot_id = inside.boot_id
    guest.hold_at_reboot()
    late = with_agent(*KERNEL_ONLY, "--reboot-timeout", str(PATIENCE_S), timeout=1800)
    assert late.code == 3, late.said
    assert f"not up again within {PATIENCE_S} s" in late.said

    wait_for(guest.is_held, "the guest to shut down", seconds=SHUTS_DOWN_WITHIN_S)
    still_away = with_agent(*KERNEL_ONLY, "--reboot-timeout", str(PATIENCE_S), timeout=1800)
    assert still_away.code == 3, still_away.said
    assert "a reboot was asked for at" in still_away.said

    guest.let_boot()
    with measured("boot to SSH after the reboot"):
        guest.wait_for_ssh()
    done = with_agent(*KERNEL_ONLY, "--json", timeout=1800)
    assert done.code == 0, done.said
    assert "the host came back from it" in done.err
    assert inside.boot_id != boot_id
    assert done.json[0]["reboots"] == 0, "this run needed none"


def state(rigup: Rigup, job: str) -> str:
    return str(rigup.ok("describe", job, "--json").json["job"]["state"])
