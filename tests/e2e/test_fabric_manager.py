"""A practice host gets an NVSwitch: its Fabric Manager ends at exactly the driver's version."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

SWITCH = "/sys/bus/pci/devices/0000:c1:00.0"
PLUG_IN = f"""
mkdir {SWITCH}
echo 0x10de > {SWITCH}/vendor
echo 0x068000 > {SWITCH}/class
echo 0x22a3 > {SWITCH}/device
"""
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y"
TAKE_OUT = f"""
rm -r {SWITCH}
apt-get purge -y --allow-change-held-packages nvidia-fabricmanager >/dev/null
systemctl daemon-reload
"""
UNIT = "nvidia-fabricmanager.service"


@pytest.fixture
def host(provisioned: Rigup, shell: Callable[[str], LabHostShell]) -> Iterator[LabHostShell]:
    found = shell("lab01")
    found.run(PLUG_IN)
    yield found
    found.run(TAKE_OUT)


def test_a_newer_one_is_replaced_held_and_started(provisioned: Rigup, host: LabHostShell) -> None:
    host.run(f"{INSTALL} nvidia-fabricmanager=595.91.07-1 >/dev/null 2>&1")
    host.run(f"systemctl enable --now {UNIT} 2>/dev/null", check=False)
    assert host.run(f"systemctl is-active {UNIT}", check=False).strip() != "active"

    [report] = provisioned.ok("provision", "--host", "lab01", "--json").json
    [step] = [step for step in report["steps"] if step["step"] == "fabric_manager"]
    assert "nvidia-fabricmanager is 595.91.07, the driver is 580.173.02" in step["reason"]
    version = host.run("dpkg-query -W -f '${Version}' nvidia-fabricmanager")
    assert version == "580.173.02-1"
    assert "nvidia-fabricmanager" in host.run("apt-mark showhold").split()
    assert host.run(f"systemctl is-active {UNIT}").strip() == "active"

    [again] = provisioned.ok("provision", "--host", "lab01", "--json").json
    assert again["changed"] == 0
