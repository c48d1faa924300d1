"""GPU leases: one holder, across processes and users, freed by death, and nobody in the way."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from remote_agent.lease_directories import MOST_PER_USER, PREFIX, LeaseDirectories
from remote_agent.leases import Leases, _address, _name, _note

HOLD = """
import sys; sys.path.insert(0, sys.argv[2])
import os
from remote_agent.lease_directories import LeaseDirectories
from remote_agent.leases import Leases
mine = os.geteuid()
for uid in sys.argv[3:]:
    os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
directories = LeaseDirectories(sys.argv[1].split(","), (mine,))
lease = Leases(directories).acquire("GPU-1", "train-" + str(os.geteuid()))
print("held" if lease is not None else "refused", flush=True); sys.stdin.read()
"""
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")


def leases_in(*parents):
    """Parents of whoever runs the tests are trusted as root's are on a host."""
    return Leases(LeaseDirectories(parents, (os.geteuid(),)))


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
    first, second = leases_in(parent), leases_in(parent)
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
    leases = leases_in(parent)
    holder = Holder([parent])
    assert holder.holds
    assert leases.acquire("GPU-1") is None
    holder.kill()
    lease = leases.acquire("GPU-1")
    assert lease is not None
    os.close(lease)


def test_a_program_that_inherited_the_lease_keeps_it(parent):
    leases = leases_in(parent)
    lease = leases.acquire("GPU-1")
    program = subprocess.Popen(["sleep", "60"], pass_fds=[lease])
    os.close(lease)
    assert leases.is_held("GPU-1")
    program.kill()
    program.wait()
    assert not leases.is_held("GPU-1")


def test_however_often_one_looks_the_lease_stays_and_can_be_had_again(parent):
    leases = leases_in(parent)
    lease = leases.acquire("GPU-1")
    assert all(leases.is_held("GPU-1") for _ in range(50))
    os.close(lease)
    assert not leases.is_held("GPU-1")
    os.close(leases.acquire("GPU-1"))


def test_looking_never_keeps_anybody_from_leasing(parent):
    """A supervisor that takes over a job leases its GPUs again while others look."""
    leases, end = leases_in(parent), threading.Event()

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
        assert leases_in(parent).holder("GPU-1") == "train-12001 of 12001"
    with Holder([parent], 12003) as third:
        assert third.holds
        assert leases_in(parent).acquire("GPU-1") is None


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
def test_of_many_who_try_at_once_one_has_it(parent):
    for _ in range(3):
        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(lambda uid: Holder([parent], uid), range(12001, 12007)))
        assert sum(holder.holds for holder in found) == 1
        for holder in found:
            holder.kill()
    with Holder([parent], 12001) as last:
        assert last.holds


@needs_root
def test_a_parent_that_a_user_made_is_used_by_nobody(tmp_path, parent):
    """It was there before the host was provisioned, and only that user would look there."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o1777)
    os.chown(str(theirs), 12001, -1)
    with Holder([str(theirs), parent], 12001) as first:
        assert first.holds
        with Holder([str(theirs), parent], 12002) as second:
            assert not second.holds


def test_a_directory_without_room_is_passed_over(tmp_path, parent, monkeypatch):
    """Another user can fill the file system that it lies on."""
    other = tmp_path / "other"
    other.mkdir()
    os.close(leases_in(parent, str(other)).acquire("GPU-2"))
    full, really = home_of(parent), os.open

    def full_disk(path, flags, *words, dir_fd=None, **others):
        if flags & os.O_CREAT and os.readlink(f"/proc/self/fd/{dir_fd}") == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(path, flags, *words, dir_fd=dir_fd, **others)

    monkeypatch.setattr(os, "open", full_disk)
    lease = leases_in(parent, str(other)).acquire("GPU-1")
    monkeypatch.undo()
    assert lease is not None
    assert _name("GPU-1") in os.listdir(home_of(str(other)))
    assert leases_in(parent, str(other)).acquire("GPU-1") is None
    os.close(lease)


def test_a_directory_that_was_left_closed_is_opened_to_the_others(parent):
    os.close(leases_in(parent).acquire("GPU-1"))
    os.chmod(home_of(parent), 0o700)
    os.close(leases_in(parent).acquire("GPU-1"))
    assert stat.S_IMODE(os.stat(home_of(parent)).st_mode) == 0o755


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO])
def test_what_cannot_be_found_out_counts_as_held(parent, monkeypatch, number):
    leases = leases_in(parent)
    lease = leases.acquire("GPU-1")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", fail)
    assert leases.is_held("GPU-1")
    assert os.strerror(number) in leases.holder("GPU-1")
    with pytest.raises(OSError, match=os.strerror(number)):
        leases.acquire("GPU-1")
    monkeypatch.undo()
    os.close(lease)


def test_a_process_that_keeps_the_guard_holds_nobody_up_for_ever(parent, monkeypatch):
    monkeypatch.setattr("remote_agent.leases.GUARD_LIMIT_S", 0.0)
    os.close(leases_in(parent).acquire("GPU-2"))
    with open(os.path.join(home_of(parent), "guard")) as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            leases_in(parent).acquire("GPU-1")


def test_the_job_is_named_where_its_name_is_one(parent):
    leases = leases_in(parent)
    lease = leases.acquire("GPU-1", "train-1")
    note = os.path.join(home_of(parent), _note("GPU-1"))
    user = leases.holder("GPU-1")
    assert user.startswith("train-1 of ")
    nameless = user.replace("train-1", "a job")
    for content in (b"\x1b]52;evil\x07", b"x" * 100_000, b"train-1\n", b""):
        with open(note, "wb") as file:
            file.write(content)
        assert leases.holder("GPU-1") == nameless
    os.unlink(note)
    assert leases.holder("GPU-1") == nameless
    os.mkfifo(note)
    assert leases.holder("GPU-1") == nameless
    os.unlink(note)
    os.symlink("/dev/zero", note)
    assert leases.holder("GPU-1") == nameless
    os.close(lease)
    os.close(leases.acquire("GPU-1", "train-2"))


def test_what_is_refreshed_is_young(parent):
    """systemd-tmpfiles deletes by access, modification and change."""
    leases = leases_in(parent)
    lease = leases.acquire("GPU-1", "train-1")
    names = (_name("GPU-1"), _note("GPU-1"), "guard", ".")
    paths = [os.path.join(home_of(parent), name) for name in names]
    for path in paths:
        os.utime(path, (0, 0))
    leases.refresh("GPU-1")
    assert all(os.stat(path).st_mtime > 0 and os.stat(path).st_atime > 0 for path in paths)
    os.close(lease)


def test_many_names_are_listed_once_for_all_gpus(parent, monkeypatch):
    leases, listings, really = leases_in(parent), [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listings.append(path) or really(path))
    for number in range(8):
        leases.is_held(f"GPU-{number}")
    assert len(listings) == 1


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
    leases = leases_in(parent)
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
    leases = leases_in(parent)
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
    leases = leases_in(parent)
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
    leases = leases_in(parent)
    assert len(leases._directories.of_all()) == MOST_PER_USER


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
    leases = leases_in(trap, parent)
    lease = leases.acquire("GPU-1")
    assert lease is not None
    assert home_of(parent)
    os.close(lease)


def test_no_directory_at_all_is_an_error(tmp_path):
    leases = leases_in(str(tmp_path / "missing"))
    assert not leases.is_held("GPU-1")
    with pytest.raises(OSError, match="GPU leases"):
        leases.acquire("GPU-1")


def test_others_may_look_and_nothing_else(parent):
    lease = leases_in(parent).acquire("GPU-1")
    home = home_of(parent)
    modes = {
        name: stat.S_IMODE(os.stat(os.path.join(home, name)).st_mode) for name in os.listdir(home)
    }
    assert modes == {_name("GPU-1"): 0o666, _note("GPU-1"): 0o644, "guard": 0o600}
    assert stat.S_IMODE(os.stat(home).st_mode) == 0o755
    os.close(lease)


def test_strange_uuids_stay_inside(parent):
    lease = leases_in(parent).acquire("../../etc/x\udcff")
    uuid = "../../etc/x\udcff"
    assert set(os.listdir(home_of(parent))) == {_name(uuid), _note(uuid), "guard"}
    os.close(lease)
