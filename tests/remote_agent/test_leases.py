"""GPU leases: one holder, across processes and users, freed by death, and nobody in the way."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remote_agent.leases import MOST_PER_USER, PREFIX, Leases, _address, _name

HOLD = """
import sys; sys.path.insert(0, sys.argv[2])
import os
from remote_agent.leases import Leases
for uid in sys.argv[3:]:
    os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
lease = Leases(sys.argv[1].split(",")).acquire("GPU-1")
print("held" if lease is not None else "refused", flush=True); sys.stdin.read()
"""
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")


class Holder:
    """Another process, of ``uid`` where one is given, that tried to lease GPU-1."""

    def __init__(self, parents, *uid):
        words = [sys.executable, "-c", HOLD, ",".join(parents), ROOT, *map(str, uid)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holds = self._process.stdout.readline() == b"held\n"

    def kill(self):
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()


@pytest.fixture
def parent(tmp_path):
    """As provisioning makes it."""
    os.chmod(tmp_path, 0o755)
    for above in tmp_path.parents:
        if above.name.startswith("pytest"):
            os.chmod(above, 0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    return str(shared)


def home_of(parent):
    [name] = [name for name in os.listdir(parent) if name.startswith(PREFIX)]
    return os.path.join(parent, name)


def test_one_holder_at_a_time(parent):
    first, second = Leases((parent,)), Leases((parent,))
    lease = first.acquire("GPU-1")
    assert lease is not None
    assert second.acquire("GPU-1") is None
    assert second.is_held("GPU-1")
    assert second.holder("GPU-1")
    other = second.acquire("GPU-2")
    assert other is not None
    os.close(lease)
    assert not second.is_held("GPU-1")
    assert second.holder("GPU-1") == ""
    os.close(other)


def test_the_death_of_the_holder_frees(parent):
    leases = Leases((parent,))
    holder = Holder([parent])
    assert holder.holds
    assert leases.acquire("GPU-1") is None
    holder.kill()
    lease = leases.acquire("GPU-1")
    assert lease is not None
    os.close(lease)


def test_a_program_that_inherited_the_lease_keeps_it(parent):
    leases = Leases((parent,))
    lease = leases.acquire("GPU-1")
    program = subprocess.Popen(["sleep", "60"], pass_fds=[lease])
    os.close(lease)
    assert leases.is_held("GPU-1")
    program.kill()
    program.wait()
    assert not leases.is_held("GPU-1")


def test_however_often_one_looks_the_lease_stays_and_can_be_had_again(parent):
    leases = Leases((parent,))
    lease = leases.acquire("GPU-1")
    assert all(leases.is_held("GPU-1") for _ in range(50))
    os.close(lease)
    assert not leases.is_held("GPU-1")
    os.close(leases.acquire("GPU-1"))


def test_looking_never_keeps_anybody_from_leasing(parent):
    """A supervisor that takes over a job leases its GPUs again while others look."""
    leases, end = Leases((parent,)), threading.Event()

    def look():
        while not end.is_set():
            leases.is_held("GPU-1")

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            lease = leases.acquire("GPU-1")
            assert lease is not None
            os.close(lease)
    finally:
        end.set()
        looking.join()


@needs_root
def test_three_users_and_root_never_share_a_gpu(parent):
    with Holder([parent], 12001) as first:
        assert first.holds
        for others in ((12002,), (12003,), ()):
            with Holder([parent], *others) as other:
                assert not other.holds
        assert Leases((parent,)).holder("GPU-1") == "12001"
    with Holder([parent], 12003) as third:
        assert third.holds
        assert Leases((parent,)).acquire("GPU-1") is None


@needs_root
def test_without_the_provisioned_directory_users_see_each_other(tmp_path, parent):
    missing = str(tmp_path / "missing")
    with Holder([missing, parent], 12001) as first:
        assert first.holds
        with Holder([missing, parent], 12002) as second:
            assert not second.holds


@needs_root
def test_users_in_different_directories_see_each_other(tmp_path, parent):
    """One began before the host was provisioned, the other after it."""
    later = tmp_path / "later"
    with Holder([str(later), parent], 12001) as first:
        assert first.holds
        later.mkdir()
        later.chmod(0o1777)
        with Holder([str(later), parent], 12002) as second:
            assert not second.holds


@needs_root
def test_of_many_who_try_at_once_at_most_one_has_it(parent):
    for _ in range(3):
        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(lambda uid: Holder([parent], uid), range(12001, 12007)))
        assert sum(holder.holds for holder in found) <= 1
        for holder in found:
            holder.kill()
    with Holder([parent], 12001) as last:
        assert last.holds


def _make_odd(path, kind, tmp_path):
    if kind == "symlink":
        os.symlink(str(tmp_path), path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "file":
        with open(path, "w") as file:
            file.write("mine")
    else:
        dead = socket.socket(socket.AF_UNIX)
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        dead.bind(_address(fd, os.path.basename(path)))
        dead.close()
        os.close(fd)


@needs_root
@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "file", "dead socket"])
def test_nobody_blocks_others_by_a_file(parent, tmp_path, kind):
    theirs = os.path.join(parent, PREFIX + "ann")
    os.mkdir(theirs)
    _make_odd(os.path.join(theirs, _name("GPU-1")), kind, tmp_path)
    os.chown(theirs, 12001, -1)
    leases = Leases((parent,))
    assert not leases.is_held("GPU-1")
    lease = leases.acquire("GPU-1")
    assert lease is not None
    os.close(lease)


@needs_root
def test_a_symlink_to_another_programs_socket_blocks_nobody(parent, tmp_path):
    program = socket.socket(socket.AF_UNIX)
    fd = os.open(str(tmp_path), os.O_RDONLY)
    program.bind(_address(fd, "bus"))
    program.listen(0)
    theirs = os.path.join(parent, PREFIX + "ann")
    os.mkdir(theirs)
    os.chown(theirs, 12001, -1)
    os.symlink(str(tmp_path / "bus"), os.path.join(theirs, _name("GPU-1")))
    os.link(str(tmp_path / "bus"), os.path.join(theirs, _name("GPU-2")))
    leases = Leases((parent,))
    assert not leases.is_held("GPU-1")
    assert not leases.is_held("GPU-2")
    program.close()
    os.close(fd)


@needs_root
@pytest.mark.parametrize("kind", ["symlink", "file", "foreign", "open to all"])
def test_a_directory_that_is_nobodys_own_does_not_count(parent, tmp_path, kind):
    trap = os.path.join(parent, PREFIX + "0-trap")
    if kind == "symlink":
        os.symlink(str(tmp_path), trap)
    elif kind == "file":
        with open(trap, "w"):
            pass
    else:
        os.mkdir(trap)
        os.chown(trap, 12001, -1)
        os.chmod(trap, 0o777 if kind == "open to all" else 0o755)
    leases = Leases((parent,))
    lease = leases.acquire("GPU-1")
    assert lease is not None
    assert os.path.islink(trap) or not os.path.isdir(trap) or os.listdir(trap) == []
    os.close(lease)


@needs_root
def test_nobody_costs_others_much_time(parent):
    for number in range(50):
        path = os.path.join(parent, PREFIX + str(number))
        os.mkdir(path)
        os.chown(path, 12001, -1)
    leases = Leases((parent,))
    assert len(leases._directories()) == MOST_PER_USER


@pytest.mark.parametrize("trust", ["not-sticky", "foreign", "symlink", "missing"])
def test_a_parent_that_others_control_is_passed_over(tmp_path, parent, trust):
    trap = str(tmp_path / "trap")
    if trust == "symlink":
        os.symlink(parent, trap)
    elif trust != "missing":
        os.mkdir(trap)
        os.chmod(trap, 0o777 if trust == "not-sticky" else 0o1777)
    if trust == "foreign":
        os.chown(trap, 12345, -1) if os.geteuid() == 0 else pytest.skip("needs root")
    leases = Leases((trap, parent))
    lease = leases.acquire("GPU-1")
    assert lease is not None
    assert home_of(parent)
    os.close(lease)


def test_no_directory_at_all_is_an_error(tmp_path):
    leases = Leases((str(tmp_path / "missing"),))
    assert not leases.is_held("GPU-1")
    with pytest.raises(OSError, match="GPU leases"):
        leases.acquire("GPU-1")


def test_others_may_look_and_nothing_else(parent):
    lease = Leases((parent,)).acquire("GPU-1")
    home = home_of(parent)
    modes = {
        name: stat.S_IMODE(os.stat(os.path.join(home, name)).st_mode) for name in os.listdir(home)
    }
    assert modes == {_name("GPU-1"): 0o666, "guard": 0o600}
    assert stat.S_IMODE(os.stat(home).st_mode) == 0o755
    os.close(lease)


def test_strange_uuids_stay_inside(parent):
    lease = Leases((parent,)).acquire("../../etc/x\udcff")
    assert sorted(os.listdir(home_of(parent))) == sorted([_name("../../etc/x\udcff"), "guard"])
    os.close(lease)
