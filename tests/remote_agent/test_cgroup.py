"""The cgroup of a job: where it is, that it is the job's, and that emptying it misses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from real_cgroups import KINDS, scope_directory

from remote_agent import cgroup as module
from remote_agent.cgroup import Cgroup, make_cgroup, recorded_cgroup, scope_name
from remote_agent.launch import launch
from remote_agent.tree import Tree

JOB = "job-1"
SCOPE = "rigup-job-job-1-0123abcd.scope"


@pytest.fixture
def hierarchy(tmp_path, monkeypatch):
    """A plain directory in the place of a cgroup hierarchy."""
    monkeypatch.setattr(module, "_mounts", lambda: [(module.CGROUP2, "/", str(tmp_path))])
    return tmp_path


def recorded(path, job_id=JOB):
    return recorded_cgroup({"cgroup": str(path)}, job_id)


def test_a_recorded_cgroup_is_found_again(hierarchy):
    path = hierarchy / "app.slice" / SCOPE / "job"
    path.mkdir(parents=True)
    assert recorded(path) == Cgroup(str(path))


@pytest.mark.parametrize(
    "place",
    [
        "",
        "app.slice",
        f"app.slice/{SCOPE}",
        f"app.slice/{SCOPE}/job/..",
        f"app.slice/{SCOPE}/job/",
        f"app.slice/{SCOPE}/job\n",
        "app.slice/rigup-job-job-2-0123abcd.scope/job",
        "app.slice/rigup-job-job-1-x-0123abcd.scope/job",
        "app.slice/rigup-job-job-1.scope/job",
        f"link/{SCOPE}/job",
        f"missing/{SCOPE}/job",
    ],
)
def test_what_a_damaged_record_names_is_not_touched(hierarchy, place):
    for name in (SCOPE, "rigup-job-job-2-0123abcd.scope", "rigup-job-job-1-x-0123abcd.scope"):
        (hierarchy / "app.slice" / name / "job").mkdir(parents=True)
    (hierarchy / "link").symlink_to(hierarchy / "app.slice")
    assert recorded(f"{hierarchy}/{place}") is None


@pytest.mark.parametrize("value", [None, 7, [], {}, "", "/", "relative", "\0", f"x/{SCOPE}/job"])
def test_nonsense_is_no_cgroup(hierarchy, value):
    assert recorded_cgroup({"cgroup": value}, JOB) is None
    assert recorded_cgroup({}, JOB) is None


def test_a_directory_outside_of_every_hierarchy_is_no_cgroup(tmp_path):
    path = tmp_path / SCOPE / "job"
    path.mkdir(parents=True)
    assert recorded(path) is None


def test_another_users_cgroup_is_not_touched(hierarchy, monkeypatch):
    path = hierarchy / SCOPE / "job"
    path.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert recorded(path) is None


def test_it_is_made_only_in_a_scope_of_this_very_job(hierarchy, monkeypatch):
    mine, other = hierarchy / SCOPE, hierarchy / "session-3.scope"
    mine.mkdir()
    other.mkdir()
    monkeypatch.setattr(module, "own_directories", lambda: iter([str(other), str(mine)]))
    assert make_cgroup("job-2") is None
    assert make_cgroup(JOB) == Cgroup(str(mine / "job"))
    assert list(other.iterdir()) == []
    assert make_cgroup(JOB) is None, "it is there already, so it is another's"


def test_a_process_is_found_in_the_hierarchies_that_are_mounted():
    own = list(module.own_directories())
    assert all(os.path.isdir(path) for path in own)


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [("/a/b", "/", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/a", True)],
)
def test_the_root_of_a_mount(path, root, below):
    assert module._is_below(path, root) is below


@pytest.mark.parametrize(
    ("directory", "uid", "base"),
    [
        (
            "/c/user.slice/user-7.slice/session-1.scope",
            7,
            "/c/user.slice/user-7.slice/user@7.service",
        ),
        ("/c/user-7.slice/session-1.scope", 8, ""),
        ("/c/system.slice/rigup-job-a-01234567.scope", 0, "/c/system.slice"),
        ("/c/user.slice/user-0.slice/session-1.scope", 0, "/c/system.slice"),
        ("/c", 0, ""),
    ],
)
def test_where_a_manager_keeps_its_units(directory, uid, base):
    assert module._manager_cgroup(directory, uid) == base


@pytest.mark.parametrize("details", [{}, {"cgroup": 7}, {"cgroup": "/etc"}])
def test_the_cgroup_of_a_job_with_damaged_records_is_looked_for(hierarchy, monkeypatch, details):
    slice_ = hierarchy / "user-1000.slice"
    apps = slice_ / "user@1000.service" / "app.slice"
    for name in ("rigup-job-job-2-0123abcd.scope", SCOPE):
        (apps / name / "job").mkdir(parents=True)
    monkeypatch.setattr(module, "own_directories", lambda: iter([f"{slice_}/session-1.scope"]))
    monkeypatch.setattr(module, "_is_ours", lambda path: True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert recorded_cgroup(details, JOB) == Cgroup(str(apps / SCOPE / "job"))
    assert recorded_cgroup(details, "job-3") is None
    assert recorded_cgroup({"cgroup": None}, JOB) is None, "it has none, so that nobody looks"


def test_a_cgroup_that_is_gone_is_empty(tmp_path):
    gone = Cgroup(str(tmp_path / "gone"))
    assert gone.pids() == []
    gone.kill()


HIDERS = """\
import os, subprocess, time
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
for _ in range(3):
    subprocess.Popen(["/usr/bin/env", "-i", "/usr/bin/setsid", "/bin/sleep", "1000"], **quiet)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
print("up", flush=True)
os._exit(0)
"""


@pytest.fixture(params=KINDS)
def own(request, monkeypatch):
    """The job's cgroup, made where a supervisor would make it."""
    with scope_directory(request.param, JOB) as directory:
        monkeypatch.setattr(module, "own_directories", lambda: iter([str(directory)]))
        yield make_cgroup(JOB)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_orphans_that_shed_everything_are_found_and_ended(own, tmp_path):
    log = tmp_path / "log"
    pid = launch([sys.executable, "-c", HIDERS], "/", {}, str(log), own)
    os.waitpid(pid, 0)
    assert log.read_text() == "up\n"
    found = recorded_cgroup({"cgroup": own.path}, JOB)
    until(lambda: len(found.pids()) == 4)
    tree = Tree(JOB, cgroup=found)
    assert tree.pids() == sorted(found.pids())
    until(lambda: all(name.startswith("sleep (pid ") for name in tree.described()))
    until(lambda: tree.send(signal.SIGKILL) == 0)


RELAY = """\
import os
while True:
    if os.fork():
        os._exit(0)
"""


def test_a_process_that_always_forks_and_ends_is_caught(own, tmp_path):
    """Its number is another one before a signal can be sent to it."""
    pid = launch([sys.executable, "-c", RELAY], "/", {}, str(tmp_path / "log"), own)
    os.waitpid(pid, 0)
    tree = Tree(JOB, cgroup=own)
    until(lambda: tree.send(signal.SIGKILL) == 0)
    os.rmdir(own.path)  # which the kernel refuses while anything is in it


def test_a_job_that_makes_cgroups_of_its_own_does_not_hide_in_them(own):
    deeper = f"{own.path}/deeper"
    os.mkdir(deeper)
    script = f"echo 0 > {deeper}/cgroup.procs; exec sleep 1000"
    child = subprocess.Popen(["sh", "-c", script])
    try:
        until(lambda: own.pids() == [child.pid])
        Tree(JOB, cgroup=own).send(signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        os.rmdir(deeper)


def test_a_cgroup_that_cannot_be_entered_does_not_stop_the_program(tmp_path, capfd):
    log = tmp_path / "log"
    pid = launch(["echo", "runs"], "/", dict(os.environ), str(log), Cgroup(str(tmp_path / "gone")))
    assert os.waitpid(pid, 0)[1] == 0
    assert log.read_text() == "runs\n"
    assert "outside of its cgroup" in capfd.readouterr().err


def test_names_are_what_systemd_takes():
    name = scope_name("a" * 63)
    assert len(name) < 255
    assert module.SCOPE.match(name).group(1) == "a" * 63
