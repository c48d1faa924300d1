"""Debian's own NVIDIA packages, the real ones, up to the kernel module that containers lack.

On hosts of its own: these are never mixed with the stand-ins of the other tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_program import Done, LabHostShell, Rigup

pytestmark = pytest.mark.e2e

STEPS = ("--only", "kernel,driver")
BRANCH = {"lab01": "535", "lab02": "550"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, ssh_config: None) -> Iterator[Rigup]:
    program = Rigup(tmp_path_factory.mktemp("distro-driver") / "home")
    program.ok("lab.up", "--hosts", "2", "--distro", "debian12,debian13", timeout=1800)
    yield program
    program("lab.down", timeout=300)


@pytest.fixture(scope="module")
def inventory(lab: Rigup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def from_the_archive(data) -> None:
        data["defaults"]["driver_source"] = "distro"

    return lab.with_hosts(tmp_path_factory.mktemp("inventory"), from_the_archive)


@pytest.fixture(scope="module")
def installed(lab: Rigup, inventory: Path) -> Done:
    return lab("provision", "--all", *STEPS, "--inventory", str(inventory), "--json", timeout=1800)


@pytest.fixture(scope="module")
def inside(lab: Rigup) -> Callable[[str], LabHostShell]:
    hosts = lab.ok("lab.status", "--json").json["hosts"]
    containers = {host["name"]: host["container"] for host in hosts}
    return lambda name: LabHostShell(containers[name])


def driver_step(done: Done, host: str) -> dict:
    [report] = [report for report in done.json if report["host"] == host]
    [step] = [step for step in report["steps"] if step["step"] == "driver"]
    return step


@pytest.mark.parametrize("host", BRANCH)
def test_what_a_container_cannot_have_is_reported_as_what_it_is(installed: Done, host: str) -> None:
    assert installed.code == 3, installed.said
    step = driver_step(installed, host)
    assert step["status"] == "blocked"
    assert f"nvidia-smi {BRANCH[host]}." in step["reason"]
    assert "its kernel module can be neither built nor loaded here" in step["reason"]
    assert "container (docker)" in step["reason"]
    assert "a kernel of its own" in step["what_to_do"]


@pytest.mark.parametrize("host", BRANCH)
def test_the_packages_are_the_real_ones(installed: Done, inside, host: str) -> None:
    shell = inside(host)
    told = shell.run("dpkg-query -s nvidia-smi nvidia-kernel-dkms libcuda1 firmware-nvidia-gsp")
    assert told.count("Status: install ok installed") == 4
    assert "SIMULATED" not in told
    assert told.count(f"Version: {BRANCH[host]}.") == 4
    assert "couldn't communicate with the NVIDIA driver" in shell.run("nvidia-smi || [ $? = 9 ]")
    assert ": added" in shell.run("dkms status")


def test_the_hosts_own_mirror_serves_the_added_components(installed: Done, inside) -> None:
    own = inside("lab01").run("cat /etc/apt/sources.list.d/debian.sources")
    added = inside("lab01").run("cat /etc/apt/sources.list.d/rigup-debian-non-free.sources")
    lines = [line for line in own.splitlines() if line.startswith(("URIs", "Suites", "Signed-By"))]
    assert all(line in added for line in lines)
    assert "Components: contrib non-free non-free-firmware" in added


def test_a_second_run_changes_nothing_and_says_the_same(
    lab: Rigup, installed: Done, inventory: Path
) -> None:
    again = lab("provision", "--all", *STEPS, "--inventory", str(inventory), "--json")
    assert again.code == 3
    for host in BRANCH:
        assert driver_step(again, host)["reason"] == driver_step(installed, host)["reason"]
    assert [report["changed"] for report in again.json] == [0, 0]


def test_the_vendors_packages_are_not_mixed_in(lab: Rigup, installed: Done) -> None:
    done = lab("provision", "--all", *STEPS, "--json")
    assert done.code == 3
    for host in BRANCH:
        assert "the two are never mixed" in driver_step(done, host)["reason"]
        assert "driver_source: distro" in driver_step(done, host)["what_to_do"]
