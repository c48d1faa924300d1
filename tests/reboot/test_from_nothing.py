"""One command takes a machine with the wrong kernel and nouveau to containers with GPUs.

The kernel, nouveau, DKMS, the module and the reboot are real; the GPUs are SIMULATED.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from figures import measured
from guest_shell import GuestShell
from lab_program import Done, Rigup

from provisioner.lab.guest import Guest

pytestmark = pytest.mark.reboot

COMMAND = ("provision", "--host", "guest01", "--reboot", "--yes", "--json")
KERNELS = """
echo "running=$(uname -r)"
echo "newest=$(ls /lib/modules | sort -V | tail -n 1)"
"""


@dataclass(frozen=True)
class Story:
    """What a test needs to know about how it went."""

    boot_id_before: str
    kernels_before: dict[str, str]
    done: Done

    @property
    def report(self) -> dict:
        return self.done.json[0]


def kernels(inside: GuestShell) -> dict[str, str]:
    return dict(line.split("=") for line in inside.run(KERNELS).splitlines())


@pytest.fixture(scope="module")
def provisioned(rigup: Rigup, inside: GuestShell) -> Story:
    """The one command. The tests before the first that asks for this see the bare machine."""
    boot_id, installed = inside.boot_id, kernels(inside)
    with measured("provision --reboot --yes, from nothing to verified"):
        done = rigup(*COMMAND, timeout=5400)
    print(done.err)
    return Story(boot_id, installed, done)


def test_the_machine_has_nothing_and_the_wrong_kernel(inside: GuestShell) -> None:
    assert inside.run("command -v docker nvidia-smi dkms gcc", check=False) == ""
    assert "nvidia" not in inside.run("dpkg-query -W")
    found = kernels(inside)
    assert found["running"] != found["newest"]


def test_nouveau_holds_the_machine(inside: GuestShell) -> None:
    assert inside.run("cat /sys/module/nouveau/initstate") == "live"


def test_without_leave_to_reboot_the_plan_says_that_it_takes_one(rigup: Rigup) -> None:
    done = rigup("provision", "--host", "guest01", "--check", "--json")
    assert done.code == 0, done.said
    steps = {step["step"]: step for step in done.json[0]["steps"]}
    assert steps["kernel"]["needs_reboot"]
    assert "still runs" in steps["kernel"]["reason"]


def test_one_command_ends_verified(provisioned: Story) -> None:
    assert provisioned.done.code == 0, provisioned.done.said
    assert provisioned.report["status"] == "changed"
    proofs = [proof["text"] for proof in provisioned.report["proofs"]]
    assert any("exactly the host's 2 GPU(s)" in text for text in proofs), proofs
    assert all(proof["simulated"] for proof in provisioned.report["proofs"])


def test_it_rebooted_once_and_says_so(provisioned: Story, guest: Guest, inside: GuestShell) -> None:
    assert provisioned.report["reboots"] == 1
    told = f"boot id {inside.boot_id} instead of {provisioned.boot_id_before}"
    assert told in provisioned.done.err
    assert guest.console.count("Linux version") == 2, "kernels that started, seen from outside"


def test_the_newest_kernel_runs_a_module_that_was_built_for_it(
    provisioned: Story, inside: GuestShell
) -> None:
    newest = provisioned.kernels_before["newest"]
    assert kernels(inside) == {"running": newest, "newest": newest}
    assert inside.run("sudo dkms status").startswith(
        f"nvidia/580.173.02, {newest}, x86_64: installed"
    )
    module = inside.run("sudo modinfo nvidia")
    assert f"/lib/modules/{newest}/updates/dkms/nvidia.ko" in module
    assert f"vermagic:       {newest} " in module
    assert inside.run("cat /sys/module/nvidia/version") == "580.173.02"
    assert "SIMULATED" in inside.run("cat /proc/driver/nvidia/version")


def test_nouveau_is_gone_for_good(provisioned: Story, inside: GuestShell) -> None:
    assert inside.run("ls -d /sys/module/nouveau 2>/dev/null", check=False) == ""
    assert "blacklist nouveau" in inside.run("cat /etc/modprobe.d/*.conf")


def test_a_second_run_changes_nothing_and_does_not_reboot(
    provisioned: Story, rigup: Rigup, inside: GuestShell
) -> None:
    boot_id = inside.boot_id
    with measured("second run, nothing to do"):
        report = rigup.ok(*COMMAND).json[0]
    assert (report["changed"], report["reboots"]) == (0, 0)
    assert inside.boot_id == boot_id
