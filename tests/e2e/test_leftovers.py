"""What others left on a host: stale CDI specifications, toolkit packages of several versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

STALE = (
    '{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "all", '
    '"containerEdits": {"mounts": [{"hostPath": "/usr/lib/libcuda.so.535.161.08"}]}}]}'
)


def test_a_stale_specification_is_set_aside(
    provisioned: Rigup, shell: Callable[[str], LabHostShell]
) -> None:
    here = shell("lab02")
    here.run(f"mkdir -p /etc/cdi; echo '{STALE}' > /etc/cdi/nvidia.yaml")
    try:
        done = provisioned.ok("provision", "--host", "lab02")
        assert "/etc/cdi/nvidia.yaml is for driver 535.161.08, not" in done.out
        assert here.run("cat /var/lib/rigup/removed/nvidia.yaml").strip() == STALE
        here.run("test ! -e /etc/cdi/nvidia.yaml && test -e /var/run/cdi/nvidia.yaml")
        assert "0 change(s)" in provisioned.ok("provision", "--host", "lab02").out
    finally:
        here.run("rm -rf /etc/cdi /var/lib/rigup/removed")


def test_toolkit_packages_end_at_one_version_and_stay_there(
    provisioned: Rigup, shell: Callable[[str], LabHostShell]
) -> None:
    here = shell("lab01")
    here.run(
        "apt-mark unhold nvidia-container-toolkit libnvidia-container1 >/dev/null\n"
        "apt-get update -qq && apt-get install -y --allow-downgrades --allow-change-held-packages "
        "'nvidia-container-toolkit*=1.17.0-1' libnvidia-container-tools=1.17.0-1 "
        "libnvidia-container1=1.20.0-1 >/dev/null 2>&1"
    )
    done = provisioned.ok("provision", "--host", "lab01")
    assert "toolkit 1.17.0 is below 1.19.1, which fixes CVE-2026-24260" in done.out
    versions = here.run("dpkg-query -W -f '${Version}\\n' '*nvidia-container*' | sort -u").split()
    assert versions == ["1.20.0-1"]
    assert here.run("apt-mark showhold | grep -c nvidia-container").strip() == "4"
    assert "0 change(s)" in provisioned.ok("provision", "--host", "lab01").out
