"""containerd's root: one line, before the first table."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provisioner.containerd_toml import SCRIPT

VENDORS = '#root = "/var/lib/containerd"\ndisabled_plugins = ["cri"]\n\n[grpc]\n  uid = 0\n'
NEW = 'root = "/data/c d"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"version = 2\n{NEW}"),
        ("", NEW),
        (VENDORS, VENDORS.replace("[grpc]", f"{NEW}[grpc]")),
        ('[plugins.x]\nroot = "/other"\n', f'{NEW}[plugins.x]\nroot = "/other"\n'),
    ],
    ids=["no file", "empty", "the vendor's", "another table's root"],
)
def test_root_is_one_line_before_the_first_table(
    before: str | None, after: str, tmp_path: Path
) -> None:
    assert configured(tmp_path, before).returncode == 0
    assert files(tmp_path)["config.toml"] == after


def test_a_file_that_only_root_reads_stays_so(tmp_path: Path) -> None:
    assert configured(tmp_path, "old", mode=0o600).returncode == 0
    assert (tmp_path / "etc/config.toml").stat().st_mode & 0o777 == 0o600


def configured(
    tmp_path: Path, content: str | None, *, ctr: str = "", systemctl: str = "", mode: int = 0o644
) -> subprocess.CompletedProcess[str]:
    """Run the action's script over a file of the test, with made-up programs."""
    (tmp_path / "bin").mkdir()
    for name, script in (("ctr", ctr), ("systemctl", systemctl)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    file = tmp_path / "etc/config.toml"
    if content is not None:
        file.parent.mkdir()
        file.write_text(content)
        file.chmod(mode)
    return subprocess.run(
        ["sh", "-c", SCRIPT, "sh", str(file), '"/data/c d"'],
        env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def files(tmp_path: Path) -> dict[str, str]:
    found = (tmp_path / "etc").glob("*")
    return {path.name.partition("-backup-")[0]: path.read_text() for path in found}


def test_the_file_is_replaced_and_the_old_one_kept(tmp_path: Path) -> None:
    moby = 'case "$*" in "namespaces ls -q") echo moby ;; *) echo image ;; esac'
    assert configured(tmp_path, "old", ctr=moby).returncode == 0
    assert files(tmp_path) == {"config.toml": f"old\n{NEW}", "config.toml.rigup": "old"}


def test_images_of_others_stay_where_they_are(tmp_path: Path) -> None:
    ctr = (
        'case "$*" in "namespaces ls -q") echo "moby\nk8s.io" ;; *"k8s.io images"*) echo x ;; esac'
    )
    done = configured(tmp_path, "old", ctr=ctr)
    assert done.returncode == 75
    assert "images of others too (namespaces k8s.io)" in done.stderr
    assert files(tmp_path) == {"config.toml": "old"}


@pytest.mark.parametrize("content", ["old", None], ids=["a file", "no file"])
def test_a_containerd_that_does_not_come_up_gets_its_own_file_back(
    content: str | None, tmp_path: Path
) -> None:
    fails = f"! grep -q root {tmp_path}/etc/config.toml 2>/dev/null"
    done = configured(tmp_path, content, systemctl=fails)
    assert done.returncode == 76
    assert "is as it was" in done.stderr
    assert "nor does it" not in done.stderr
    assert files(tmp_path).get("config.toml") == content
