"""A provisioned host without rigup again: packages, configuration, home; data stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bare_host import strip
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

WITH_DEBIAN = "DEBIAN_FRONTEND=noninteractive apt-get -qq install -y dbus-user-session"
"""What its installer brings: libpam-systemd recommends it. apt keeps what is recommended."""

Shell = Callable[[str], LabHostShell]

HOST = "lab02"
PROCESS = ("--runtime", "process", "--gpus", "0")
PACKAGES = "dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort"
ETC = "find /etc | sort"
DOCKERS_OWN = re.compile(
    r"/etc/(docker|containerd)(/.*)?|/etc/default/docker|/etc/init\.d/docker|/etc/rc\d\.d/\w*docker"
    r"|/etc/systemd/system/(multi-user|sockets)\.target\.wants(/(containerd|docker)\.\w+)?"
)
"""Configuration files of Docker's packages and what these made: apt-get remove leaves them, and
purging Docker would delete images and volumes."""


def test_a_host_is_as_before_and_its_data_stays(
    spare: Rigup, spare_shell: Shell, tmp_path: Path
) -> None:
    bare = strip(spare_shell(HOST))
    bare.run("usermod -aG users lab; mkdir -p /etc/apt/keyrings")
    bare.run(f"apt-get -qq update; {WITH_DEBIAN}")
    before = {what: bare.run(what).splitlines() for what in (PACKAGES, ETC)}
    groups, lingering = bare.run("id -nG lab"), bare.run("ls /var/lib/systemd/linger", check=False)
    spare.ok("provision", "--host", HOST, timeout=900)
    script = tmp_path / "train.py"
    script.write_text("print('done')\n")
    words = ("train", "--script", str(script), "--host", HOST, *PROCESS)
    job = spare.ok(*words).out.strip()
    spare.ok("logs", job, "--follow")

    plan = spare.ok("uninstall", "--host", HOST, "--check", "--json").json[0]
    assert plan["status"] == "would-change"
    assert bare.run("docker version >/dev/null && echo yes").strip() == "yes", "nothing was done"
    assert spare("uninstall", "--host", HOST).code == 3, "a person must say yes"

    report = spare.ok("uninstall", "--host", HOST, "--yes", "--json", timeout=900).json[0]
    assert report["error"] is None
    assert bare.run(PACKAGES).splitlines() == before[PACKAGES]
    left = set(bare.run(ETC).splitlines()) - set(before[ETC])
    assert [path for path in sorted(left) if not DOCKERS_OWN.fullmatch(path)] == []
    assert set(before[ETC]) <= set(bare.run(ETC).splitlines()), "nothing of others went"
    assert bare.run("id -nG lab") == groups
    assert bare.run("ls /var/lib/systemd/linger", check=False) == lingering
    assert bare.run("find ~lab/.rigup/agent ~lab/.config -type f -o -type l", check=False) == ""
    assert bare.run("ls /var/lib/rigup", check=False) == ""

    assert "done" in bare.run(f"cat ~lab/.rigup/jobs/{job}/log"), "data stays"
    assert any("/.rigup/jobs: data" in text for text in report["stays"])
    assert any("/var/lib/docker: data" in text for text in report["stays"])

    again = spare.ok("uninstall", "--host", HOST, "--yes", "--json").json[0]
    assert (again["changed"], again["steps"]) == (0, [])


def test_a_running_job_forbids_it_and_a_kept_step_stays(
    spare: Rigup, spare_shell: Shell, tmp_path: Path
) -> None:
    spare.ok("provision", "--host", HOST, timeout=900)
    script = tmp_path / "train.py"
    script.write_text("import time\ntime.sleep(600)\n")
    words = ("train", "--script", str(script), "--host", HOST, *PROCESS)
    job = spare.ok(*words).out.strip()
    try:
        refused = spare("uninstall", "--host", HOST, "--yes")
        assert refused.code == 3, refused.said
        assert job in refused.said
    finally:
        spare.ok("stop", job, "--grace", "0")
    [planned] = spare.ok("uninstall", "--host", HOST, "--check", "--json").json
    kept = ",".join(step["step"] for step in planned["steps"] if step["step"] != "agent")
    report = spare.ok("uninstall", "--host", HOST, "--yes", "--keep", kept, "--json").json[0]
    assert [step["step"] for step in report["steps"]] == ["agent"]
    journal = spare_shell(HOST).run("cat /var/lib/rigup/journal.jsonl")
    assert '"docker.io"' in journal
    assert '"agent"' not in journal
