"""What a user sees when something is wrong: one clear screen, the remedy, the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_program import Done, Rigup

pytestmark = pytest.mark.e2e

LINES_OF_ONE_SCREEN = 24


def expect(done: Done, code: int, *words: str) -> None:
    assert done.code == code, done.said
    assert len(done.err.splitlines()) <= LINES_OF_ONE_SCREEN, done.err
    assert "Traceback" not in done.said
    for word in words:
        assert word in done.said, done.said


def test_unknown_host_key(rigup: Rigup, tmp_path: Path) -> None:
    pinned = rigup.home / "known_hosts"
    kept = pinned.read_text()
    pinned.write_text("")
    try:
        expect(rigup("jobs", "--host", "lab01"), 3, "SHA256:", "invoke trust --host lab01")
        expect(rigup("trust", "--host", "lab01"), 3, "SHA256:", "--yes")
        expect(rigup("trust", "--host", "lab01", "--yes"), 0, "pinned")
        expect(rigup("jobs", "--host", "lab01"), 0)
    finally:
        pinned.write_text(kept)


def test_changed_host_key(rigup: Rigup) -> None:
    pinned = rigup.home / "known_hosts"
    kept = pinned.read_text()
    hosts = rigup.inventory()["hosts"]
    own, other = (f"[127.0.0.1]:{hosts[name]['port']}" for name in ("lab01", "lab02"))
    foreign = [line for line in kept.splitlines() if line.startswith(f"{other} ")]
    pinned.write_text("\n".join(foreign).replace(other, own) + "\n")
    try:
        expect(rigup("jobs", "--host", "lab01"), 3, "HOST KEY HAS CHANGED", "--replace")
        expect(rigup("trust", "--host", "lab01", "--yes"), 3, "--replace")
    finally:
        pinned.write_text(kept)


def test_missing_inventory_and_unknown_host(rigup: Rigup, tmp_path: Path) -> None:
    expect(rigup("jobs", "--inventory", str(tmp_path / "none.yaml")), 2, "does not exist", "try:")
    expect(rigup("jobs", "--host", "lab09"), 2, "lab09", "lab01")


def test_script_not_found(rigup: Rigup) -> None:
    expect(rigup("train", "--script", "nope.py", "--host", "lab01"), 2, "finetune_llama.py")


def test_python_missing_on_the_host(rigup: Rigup, shell, tmp_path: Path) -> None:
    host = shell("lab02")
    host.run("mv /usr/bin/python3 /usr/bin/python3.away")
    try:
        (tmp_path / "one.py").write_text("print(1)\n")
        done = rigup("train", "--script", "one.py", "--host", "lab02", cwd=tmp_path)
        expect(done, 1, "Python", "apt-get install python3")
    finally:
        host.run("mv /usr/bin/python3.away /usr/bin/python3")


def test_a_dead_host_never_hides_the_others(provisioned: Rigup, shell, tmp_path: Path) -> None:
    host = shell("lab02")
    host.docker("stop")
    try:
        jobs = provisioned("jobs")
        expect(jobs, 1, "lab02: cannot connect")
        provision = provisioned("provision", "--all")
        assert provision.code == 1
        assert "lab01: ok, 0 change(s)" in provision.out
        assert "lab02: FAILED" in provision.out
        picture = tmp_path / "dashboard.svg"
        shown = provisioned("dashboard", "--screenshot", str(picture))
        text = picture.read_text().replace("&#160;", " ")
        assert "1 of 2 hosts" in text
        assert "offline" in text
        assert "SIMULATED" in text
        assert shown.code == 1
    finally:
        provisioned.ok("lab.up", "--hosts", "2", "--distro", "debian12,debian13")
