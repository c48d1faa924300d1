"""Root makes the lease directory at a path where any user may have put something before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from provisioner.steps.gpu_leases import make_directory
from provisioner.transport.local import LocalTransport

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose directory it is")


@pytest.mark.parametrize("kind", ["nothing", "file", "link", "dangling link", "fifo", "ann's"])
def test_whatever_lay_there_becomes_roots_directory(kind: str, tmp_path: Path) -> None:
    precious = tmp_path / "etc"
    precious.mkdir(mode=0o755)
    path = tmp_path / "rigup"
    if kind == "file":
        path.touch()
    elif kind == "link":
        path.symlink_to(precious)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "ann's":
        path.mkdir()
        os.chown(path, 12001, 12001)
    done = LocalTransport().run(make_directory(str(path)))
    assert done.exit_code == 0, done.stderr
    status = path.lstat()
    assert stat.S_ISDIR(status.st_mode)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o1777)
    assert stat.S_IMODE(precious.stat().st_mode) == 0o755
    assert not (tmp_path / "nowhere").exists()
