"""Who belongs to a job where no cgroup tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote_agent.layout import JobPaths
from remote_agent.processes import identify, is_alive
from remote_agent.tree import Tree

JOB = "job-tree-1"


@pytest.fixture
def paths(tmp_path):
    found = JobPaths(str(tmp_path / JOB))
    os.mkdir(found.root)
    return found


@contextlib.contextmanager
def orphan(paths, redirect):
    """A process with its own session, no environment, and no ancestor of ours."""
    script = f"/usr/bin/env -i /usr/bin/setsid /bin/sh -c 'echo $$; exec sleep 1000 {redirect}' &"
    made = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True, timeout=20)
    pid = int(made.stdout)
    deadline = time.monotonic() + 20
    while b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_process_that_writes_the_log_belongs_to_the_job(paths):
    with orphan(paths, f">>{paths.log} 2>&1") as pid:
        assert Tree.recorded(JOB, paths, {}).pids() == [pid]


def test_a_process_that_reads_the_log_does_not(paths):
    Path(paths.log).touch()
    with orphan(paths, f"<{paths.log} >/dev/null 2>&1"):
        assert Tree.recorded(JOB, paths, {}).pids() == []
    with orphan(paths, f">/dev/null 2>&1 9>>{paths.log}"):
        assert Tree.recorded(JOB, paths, {}).pids() == [], "only what is its standard output"


def test_what_a_dead_supervisor_has_seen_belongs_to_the_job(paths):
    with orphan(paths, ">/dev/null 2>&1") as pid:
        assert Tree.recorded(JOB, paths, {}).pids() == []
        Tree(JOB).remember(paths, [pid, 4194303])
        tree = Tree.recorded(JOB, paths, {})
        assert tree.pids() == [pid]
        assert tree.described() == [f"sleep (pid {pid})"]


def test_a_number_that_was_used_again_is_another_process(paths):
    with orphan(paths, ">/dev/null 2>&1") as pid:
        Tree(JOB).remember(paths, [pid])
        told = json.loads(Path(paths.seen).read_bytes())
        told["processes"][0]["start_ticks"] -= 1
        Path(paths.seen).write_text(json.dumps(told))
        assert Tree.recorded(JOB, paths, {}).pids() == []
        assert is_alive(identify(pid))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"processes": 7}', '{"processes": [7]}', '{"processes": [{"pid": 1}]}'],
)
def test_a_damaged_list_names_nobody(paths, text):
    Path(paths.seen).write_text(text)
    assert Tree.recorded(JOB, paths, {}).pids() == []


def test_only_a_supervisor_counts_its_own_children(paths):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        tree = Tree(JOB)
        assert child.pid not in tree.pids()
        tree.add_self()
        assert child.pid in tree.pids()
        assert os.getpid() not in tree.pids()
    finally:
        child.kill()
        child.wait()
