"""GPU leases: one holder, across processes, freed by death."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys

import pytest

from remote_agent.leases import Leases

HOLD = """
import sys; sys.path.insert(0, sys.argv[2])
from remote_agent.leases import Leases
assert Leases((sys.argv[1],)).acquire("GPU-1") is not None
print("held", flush=True); sys.stdin.read()
"""
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "leases")


def test_one_holder_at_a_time(directory):
    first, second = Leases((directory,)), Leases((directory,))
    fd = first.acquire("GPU-1")
    assert fd is not None
    assert second.acquire("GPU-1") is None
    assert second.is_held("GPU-1")
    other = second.acquire("GPU-2")
    assert other is not None
    os.close(fd)
    assert not second.is_held("GPU-1")
    os.close(other)


def test_the_death_of_the_holder_frees(directory):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, directory, ROOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        leases = Leases((directory,))
        assert leases.acquire("GPU-1") is None
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    fd = leases.acquire("GPU-1")
    assert fd is not None
    os.close(fd)


def test_all_users_can_share_the_directory_and_its_files(directory):
    os.close(Leases((directory,)).acquire("GPU-1"))
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o1777
    (name,) = os.listdir(directory)
    assert stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o644


def test_locks_in_every_known_directory_count(tmp_path):
    first, second = str(tmp_path / "run"), str(tmp_path / "tmp")
    fd = Leases((second,)).acquire("GPU-1")
    both = Leases((first, second))
    assert both.acquire("GPU-1") is None
    assert both.is_held("GPU-1")
    os.close(fd)


def test_a_file_that_a_cleaner_replaced_is_locked_anew(directory):
    leases = Leases((directory,))
    stale = leases.acquire("GPU-1")
    os.unlink(os.path.join(directory, "GPU-1.lock"))
    fresh = leases.acquire("GPU-1")
    assert fresh is not None
    assert leases.is_held("GPU-1")
    os.close(stale)
    os.close(fresh)


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_what_is_no_lease_file_counts_as_held_and_blocks_nobody(directory, tmp_path, kind):
    leases = Leases((directory,))
    os.close(leases.acquire("GPU-1"))
    path = os.path.join(directory, "GPU-2.lock")
    if kind == "symlink":
        (tmp_path / "target").write_text("mine")
        os.symlink(tmp_path / "target", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)
    assert leases.is_held("GPU-2")
    assert leases.acquire("GPU-2") is None
    os.close(leases.acquire("GPU-1"))


@pytest.mark.parametrize("trust", ["not-sticky", "foreign", "symlink"])
def test_a_directory_that_others_control_is_passed_over(tmp_path, monkeypatch, trust):
    trap, good = str(tmp_path / "trap"), str(tmp_path / "good")
    os.mkdir(trap)
    os.chmod(trap, 0o777 if trust == "not-sticky" else 0o1777)
    trapped = os.open(os.path.join(trap, "GPU-1.lock"), os.O_CREAT | os.O_RDONLY)
    fcntl.flock(trapped, fcntl.LOCK_EX)
    if trust == "symlink":
        os.rename(trap, trap + ".real")
        os.symlink(trap + ".real", trap)
    if trust == "foreign":
        os.chown(trap, 12345, -1) if os.geteuid() == 0 else pytest.skip("needs root")
    leases = Leases((trap, good))
    fd = leases.acquire("GPU-1")
    assert fd is not None
    assert os.listdir(good) == ["GPU-1.lock"]
    os.close(fd)
    os.close(trapped)


def test_strange_uuids_stay_inside(directory):
    os.close(Leases((directory,)).acquire("../../etc/x"))
    assert os.listdir(directory) == ["______etc_x.lock"]
