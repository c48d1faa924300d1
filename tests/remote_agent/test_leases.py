"""GPU leases: one holder, across processes, freed by death."""

from __future__ import annotations

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


def test_a_symlink_in_place_of_a_lease_is_refused(directory, tmp_path):
    leases = Leases((directory,))
    os.close(leases.acquire("GPU-1"))
    (tmp_path / "target").write_text("mine")
    os.symlink(tmp_path / "target", os.path.join(directory, "GPU-2.lock"))
    with pytest.raises(OSError, match="Too many levels"):
        leases.acquire("GPU-2")


def test_strange_uuids_stay_inside(directory):
    os.close(Leases((directory,)).acquire("../../etc/x"))
    assert os.listdir(directory) == ["______etc_x.lock"]
