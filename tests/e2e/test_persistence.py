"""Ubuntu's unit of the persistence daemon on a practice host: a real systemd obeys the drop-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

UNIT = "nvidia-persistenced.service"
AS_ON_UBUNTU = f"""
cat > /etc/systemd/system/{UNIT} <<'UNIT'
[Service]
ExecStart=/usr/bin/nvidia-persistenced --user root --no-persistence-mode --verbose
ExecStopPost=/bin/rm -rf /run/nvidia-persistenced
UNIT
rm -rf /etc/systemd/system/*.wants/{UNIT} /etc/systemd/system/{UNIT}.d
systemctl daemon-reload
systemctl restart {UNIT}
"""
AS_BEFORE = f"""
rm -rf /etc/systemd/system/{UNIT} /etc/systemd/system/{UNIT}.d
systemctl daemon-reload
systemctl reenable {UNIT}
systemctl restart {UNIT}
"""
MODE = "nvidia-smi --query-gpu=persistence_mode --format=csv,noheader"


@pytest.fixture
def host(provisioned: Rigup, shell: Callable[[str], LabHostShell]) -> Iterator[LabHostShell]:
    found = shell("lab02")
    found.run(AS_ON_UBUNTU)
    yield found
    found.run(AS_BEFORE)


def test_the_mode_is_on_and_stays_on_over_a_restart_of_the_daemon(
    provisioned: Rigup, host: LabHostShell
) -> None:
    assert set(host.run(MODE).split()) == {"Disabled"}
    [report] = provisioned.ok("provision", "--host", "lab02", "--json").json
    [step] = [step for step in report["steps"] if step["step"] == "persistence"]
    assert step["status"] == "changed"
    assert "--no-persistence-mode" in step["reason"]
    host.run(f"systemctl restart {UNIT}")
    assert set(host.run(MODE).split()) == {"Enabled"}
    assert host.run(f"systemctl show -p WantedBy --value {UNIT}").strip() == "multi-user.target"
    [again] = provisioned.ok("provision", "--host", "lab02", "--json").json
    assert again["changed"] == 0
