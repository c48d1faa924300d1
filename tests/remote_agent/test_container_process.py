"""The container's first process is found in /proc by its job's mark and its namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_agent import processes
from remote_agent.processes import Identity
from remote_agent.runtimes import container_process as module
from remote_agent.runtimes.container_process import engine_started_after, find_first_process


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "PROC", str(tmp_path))
    monkeypatch.setattr(module, "PROC", str(tmp_path))
    return tmp_path


def process(proc: Path, pid: int, namespaces: str, job: str = "job-1", name: str = "x") -> int:
    place = proc / str(pid)
    place.mkdir()
    (place / "comm").write_text(name + "\n")
    (place / "status").write_text(f"Name:\tx\nNSpid:\t{namespaces}\nThreads:\t1\n")
    (place / "environ").write_bytes(f"A=b\0RIGUP_JOB_ID={job}\0".encode())
    (place / "stat").write_text(f"{pid} (x) S 1 1 1" + " 0" * 15 + f" {pid * 10} 0")
    return pid


def test_process_1_of_another_namespace_with_the_jobs_mark(proc):
    pids = [
        process(proc, 10, "10"),
        process(proc, 20, "20\t1", "job-2"),
        process(proc, 30, "30\t1"),
        process(proc, 31, "31\t7"),
    ]
    assert find_first_process("job-1", pids) == Identity(30, 300)


def test_a_namespace_that_the_program_made_itself_does_not_count(proc):
    pids = [process(proc, 29, "29\t9\t1"), process(proc, 30, "30\t1")]
    assert find_first_process("job-1", pids) == Identity(30, 300)


def test_what_is_hidden_gone_or_damaged_is_not_found(proc):
    hidden = process(proc, 30, "30\t1")
    (proc / "30" / "environ").unlink()
    damaged = process(proc, 31, "31\tx")
    assert find_first_process("job-1", [hidden, damaged, 99]) is None


def test_an_engine_that_started_after_a_process_that_is_gone(proc):
    process(proc, 30, "30", name="dockerd")
    process(proc, 50, "50", name="python")
    assert engine_started_after(Identity(29, 290))
    assert not engine_started_after(Identity(31, 310))
