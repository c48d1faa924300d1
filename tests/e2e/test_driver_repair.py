"""A driver that is upgraded under its loaded module is named, and mended by a reboot."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

UNPIN = "apt-get purge -y nvidia-driver-pinning-580 >/dev/null 2>&1"
UPGRADE = """
export DEBIAN_FRONTEND=noninteractive
exec >/dev/null 2>&1
apt-mark unhold $(apt-mark showhold)
apt-get install -y nvidia-open=595.91.07-1 libnvidia-ml1=595.91.07-1
"""
REMOVE = """
/usr/lib/rigup-lab/nvidia-module unload
apt-get purge -y --allow-change-held-packages 'nvidia-*' 'libnvidia-*' >/dev/null 2>&1
"""


@pytest.fixture
def host(provisioned: Rigup, shell: Callable[[str], LabHostShell]) -> Iterator[LabHostShell]:
    found = shell("lab02")
    found.run(UNPIN)
    yield found
    found.run(REMOVE)
    provisioned.ok("provision", "--host", "lab02")


def test_only_a_reboot_helps_and_gets_one_when_allowed(
    provisioned: Rigup, host: LabHostShell
) -> None:
    assert "nvidia" not in host.run("apt-get -s dist-upgrade | grep ^Inst", check=False), "held"
    host.run(UPGRADE)
    assert "version mismatch" in host.run("nvidia-smi", check=False)
    refused = provisioned("provision", "--host", "lab02")
    assert refused.code == 3, refused.said
    mismatch = "driver/library version mismatch: module 580.173.02 is loaded, user space is 595"
    assert mismatch in refused.said
    assert "--reboot" in refused.said

    [report] = provisioned.ok("provision", "--host", "lab02", "--reboot", "--yes", "--json").json
    assert report["reboots"] == 1
    assert "driver module 595.91.07 is loaded" in report["proofs"][0]["text"]
    assert "nvidia-open" in host.run("apt-mark showhold").split()
    [again] = provisioned.ok("provision", "--host", "lab02", "--json").json
    assert (again["changed"], again["reboots"]) == (0, 0)
