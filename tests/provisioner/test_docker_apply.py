"""The script that puts daemon.json in place, with a made-up Docker and systemd."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner.docker_apply import SCRIPT

OLD, NEW = '{"debug": true}\n', '{"live-restore": true}\n'
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{root}/log"
case $1 in
  restart | reload) {behaviour} ;;
esac
"""


def configured(
    root: Path, behaviour: str, *, expected: str | None = None, how: str = "restart"
) -> subprocess.CompletedProcess[str]:
    (root / "bin").mkdir()
    programs = {
        "systemctl": SYSTEMCTL.format(root=root, behaviour=behaviour),
        "dockerd": "#!/bin/sh\n",
        "journalctl": "#!/bin/sh\necho unable to configure\n",
        "timeout": f'#!/bin/sh\nshift\nexec {shutil.which("timeout")} 0.2 "$@"\n',
    }
    for name, text in programs.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    (root / "daemon.json").write_text(OLD)
    digest = hashlib.sha256(OLD.encode()).hexdigest() if expected is None else expected
    words = (str(root / "daemon.json"), digest, how, str(root / "run/unread"))
    return subprocess.run(
        ["sh", "-c", SCRIPT, "sh", *words],
        input=NEW,
        env={**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def left(root: Path) -> list[str]:
    """What lies there beside the file, without the backup's date."""
    names = (path.name.partition("-backup-") for path in root.glob("daemon.json?*"))
    return sorted(before + mark for before, mark, _ in names)


def test_the_merge_is_in_place_with_a_backup(tmp_path: Path) -> None:
    assert configured(tmp_path, "exit 0").returncode == 0
    assert (tmp_path / "daemon.json").read_text() == NEW
    assert left(tmp_path) == ["daemon.json.rigup-backup-"]
    assert not (tmp_path / "run/unread").exists()


def test_after_a_reload_the_restart_is_still_on_record(tmp_path: Path) -> None:
    assert configured(tmp_path, "exit 0", how="reload").returncode == 0
    assert (tmp_path / "run/unread").exists()


def test_a_file_that_somebody_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    done = configured(tmp_path, "exit 0", expected="another")
    assert (done.returncode, (tmp_path / "daemon.json").read_text()) == (75, OLD)
    assert left(tmp_path) == []
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ('grep -q debug "{root}/daemon.json"', "Docker runs with it"),
        ('grep -q debug "{root}/daemon.json" || sleep 50', "Docker runs with it"),
        ("exit 1", "Docker does not come up with it either"),
    ],
    ids=["refuses the new one", "hangs with the new one", "refuses both"],
)
def test_a_docker_that_does_not_come_up_gets_its_own_file_back(
    behaviour: str, told: str, tmp_path: Path
) -> None:
    done = configured(tmp_path, behaviour.format(root=tmp_path))
    assert done.returncode == 76
    assert told in done.stderr
    assert "unable to configure" in done.stderr
    assert (tmp_path / "daemon.json").read_text() == OLD
    assert not (tmp_path / "run/unread").exists()
