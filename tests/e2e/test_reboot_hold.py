"""A host that is about to reboot starts no job, and starts them when it does not go down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_program import LabHostShell, Rigup, wait_for

from provisioner.reboot import HOLD_PATH

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_jobs_wait_while_the_host_is_about_to_reboot(
    gpus: str, provisioned: Rigup, shell: Callable[[str], LabHostShell], tmp_path: Path
) -> None:
    host = shell("lab01")
    (tmp_path / "say.py").write_text("print('done')\n")
    host.run(f"mkdir -p /run/rigup; echo driver of lab01 >{HOLD_PATH}")
    try:
        words = ("train", "--script", "say.py", "--runtime", "process", "--gpus", gpus)
        job = provisioned.ok(*words, "--host", "lab01", cwd=tmp_path).out.strip()

        def shown() -> dict[str, object]:
            told = provisioned.ok("describe", job, "--host", "lab01", "--json").json["job"]
            return dict(told)

        wait_for(lambda: shown()["waiting_for"] == "the host is about to reboot", "the reason")
        assert shown()["state"] == "queued"
    finally:
        host.run(f"rm -f {HOLD_PATH}")
    wait_for(lambda: shown()["state"] == "succeeded", "its start")
