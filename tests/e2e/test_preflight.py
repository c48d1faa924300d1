"""Machines that are refused, rights that are missing, and an installation that was cut short: on
real hosts, before anything changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

HOST = "lab01"
UNPACK = """\
cd /tmp
apt-get update -qq
apt-get download nvidia-container-toolkit-base
dpkg --unpack ./nvidia-container-toolkit-base_*.deb
rm -f ./nvidia-container-toolkit-base_*.deb
"""
STATUS = "dpkg-query -W -f '${db:Status-Abbrev}' nvidia-container-toolkit-base"


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ("/dev/dxg", ("Linux inside Windows (WSL)", "driver on Windows")),
        ("/etc/nv_tegra_release", ("Jetson", "JetPack")),
    ],
)
def test_a_machine_that_is_not_ours_is_refused(
    provisioned: Rigup,
    shell: Callable[[str], LabHostShell],
    sign: str,
    words: tuple[str, ...],
) -> None:
    shell(HOST).run(f"touch {sign}")
    try:
        done = provisioned("provision", "--host", HOST)
    finally:
        shell(HOST).run(f"rm {sign}")
    assert done.code == 3, done.said
    for word in words:
        assert word in done.said, done.said


def test_a_missing_sudo_password_is_told_before_any_change(
    provisioned: Rigup, tmp_path: Path
) -> None:
    def as_admin(data) -> None:
        data["hosts"][HOST]["user"] = "admin"

    inventory = provisioned.with_hosts(tmp_path, as_admin)
    done = provisioned("provision", "--host", HOST, "--inventory", str(inventory))
    assert done.code == 3, done.said
    assert "admin may not become root without a password" in done.said
    assert "--ask-sudo-password" in done.said


def test_a_half_configured_package_is_repaired(
    provisioned: Rigup, shell: Callable[[str], LabHostShell]
) -> None:
    host = shell(HOST)
    host.run(UNPACK)
    assert host.run(STATUS)[1] == "U"
    done = provisioned.ok("provision", "--host", HOST)
    assert "preflight: an earlier installation was cut short" in done.out, done.said
    assert host.run(STATUS)[1] == "i"
    assert f"{HOST}: ok, 0 change(s)" in provisioned.ok("provision", "--host", HOST).out
