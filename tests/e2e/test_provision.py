"""From bare practice hosts to verified ones, and again with nothing to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from lab_program import Done, Rigup

from provisioner.agent.boot_unit import boot_unit

pytestmark = pytest.mark.e2e


def test_check_shows_the_plan_and_changes_nothing(rigup, shell) -> None:
    before = [shell(name).run("dpkg -l | sha256sum; ls /etc/apt") for name in ("lab01", "lab02")]
    done = rigup("provision", "--all", "--check", "--json")
    reports = done.json
    assert [report["host"] for report in reports] == ["lab01", "lab02"]
    assert all(report["simulated"] for report in reports)
    after = [shell(name).run("dpkg -l | sha256sum; ls /etc/apt") for name in ("lab01", "lab02")]
    assert before == after


def test_both_distributions_end_verified(provisioned) -> None:
    reports = provisioned.ok("provision", "--all", "--json").json
    for report in reports:
        assert report["error"] is None
        assert all(proof["simulated"] for proof in report["proofs"])
        assert "exactly the host's 2 GPU(s)" in report["proofs"][1]["text"]


def test_a_second_run_changes_nothing(provisioned) -> None:
    done = provisioned.ok("provision", "--all")
    assert done.out.count("0 change(s)") == 2, done.out
    assert "SIMULATED" in done.out


def test_the_vendor_repository_is_pinned_and_the_transcript_private(provisioned, shell) -> None:
    sources = shell("lab01").run("cat /etc/apt/sources.list.d/rigup-nvidia.sources")
    assert "Signed-By: /etc/apt/keyrings/rigup-nvidia-" in sources
    report = provisioned.ok("provision", "--host", "lab01", "--verify", "--json").json[0]
    transcript = Path(report["transcript"])
    assert stat.S_IMODE(transcript.stat().st_mode) == 0o600
    assert "docker run -i --rm" in transcript.read_text()


def test_a_swapped_signing_key_is_refused(provisioned, tmp_path: Path, shell) -> None:
    def other_key(data) -> None:
        for host in data["hosts"].values():
            host.setdefault("mirrors", {}).setdefault("nvidia", {})["key_fingerprint"] = "AB" * 20

    purge = "apt-get purge -y --allow-change-held-packages 'nvidia-*' 'libnvidia-*'"
    shell("lab02").run(f"{purge} >/dev/null 2>&1")
    inventory = provisioned.with_hosts(tmp_path, other_key)
    try:
        done = provisioned("provision", "--host", "lab02", "--inventory", str(inventory))
        assert done.code == 1
        assert "holds another key" in done.said
    finally:
        provisioned.ok("provision", "--host", "lab02")


def test_facts_of_every_host_as_json(provisioned) -> None:
    found = {row["host"]: row["result"] for row in provisioned.ok("facts", "--all", "--json").json}
    assert found["lab01"]["os"]["version"] == "12"
    assert found["lab02"]["os"]["version"] == "13"
    assert len(found["lab02"]["gpu"]["gpus"]) == 2


def test_a_user_with_a_sudo_password(provisioned, tmp_path: Path) -> None:
    def as_admin(data) -> None:
        data["hosts"]["lab01"]["user"] = "admin"

    inventory = provisioned.with_hosts(tmp_path, as_admin)
    words = ("provision", "--host", "lab01", "--inventory", str(inventory))
    password = (provisioned.home / "lab" / "admin-password").read_text().strip()

    refused = provisioned(*words)
    assert refused.code != 0

    wrong = _with_password(provisioned, words, "not-" + password)
    assert wrong.code == 1
    assert "the sudo password is wrong" in wrong.said

    right = _with_password(provisioned, words, password)
    assert right.code == 0, right.said
    assert password not in right.said
    written = b"".join(path.read_bytes() for path in provisioned.home.glob("transcripts/**/*.log"))
    assert password.encode() not in written


def _with_password(rigup: Rigup, words: tuple[str, ...], password: str) -> Done:
    reader, writer = os.pipe()
    os.write(writer, password.encode() + b"\n")
    os.close(writer)
    try:
        return rigup(*words, "--sudo-password-fd", str(reader), pass_fds=(reader,))
    finally:
        os.close(reader)


def test_through_a_jump_host_of_the_inventory(provisioned: Rigup, shell, tmp_path: Path) -> None:
    address = shell("lab02").run("ip -4 -o addr show eth0").split()[3].partition("/")[0]
    pinned = provisioned.home / "known_hosts"
    lines = pinned.read_text().splitlines(keepends=True)
    pinned.write_text("".join(line for line in lines if not line.startswith(f"{address} ")))

    def behind_lab01(data) -> None:
        data["hosts"]["lab02"].update(address=address, port=22, jump="lab01")

    inventory = ("--inventory", str(provisioned.with_hosts(tmp_path, behind_lab01)))
    unknown = provisioned("facts", "--host", "lab02", *inventory)
    assert unknown.code == 3, unknown.said
    provisioned.ok("trust", "--host", "lab02", "--yes", *inventory)
    done = provisioned.ok("provision", "--host", "lab02", *inventory)
    assert "lab02: ok, 0 change(s)" in done.out


@pytest.mark.parametrize("state_dir", [".rigup", "a dir/50%"])
def test_systemd_accepts_the_boot_unit(provisioned: Rigup, shell, state_dir: str) -> None:
    unit = boot_unit(state_dir)
    script = (
        f"mkdir -p /tmp/units && cat > /tmp/units/{unit.path.name} <<'UNIT'\n{unit.content}UNIT\n"
        f"systemd-analyze verify --user /tmp/units/{unit.path.name} 2>&1 | grep {unit.path.name}"
    )
    assert shell("lab02").run(script, check=False) == ""
    enabled = shell("lab02").run(
        "readlink -f /home/lab/.config/systemd/user/default.target.wants/*"
    )
    assert enabled.strip().endswith("/rigup-agent.service")
