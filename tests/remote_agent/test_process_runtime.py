"""Why a program could not be started."""

from __future__ import annotations

import errno

from remote_agent.launch import LaunchError
from remote_agent.layout import JobPaths
from remote_agent.protocol.job import JobSpec
from remote_agent.runtimes import process as module
from remote_agent.runtimes.base import Job


def explained(tmp_path, program, path):
    job = Job(JobSpec("job-1", "one", (program,)), JobPaths("/x"), None, env={"PATH": path})
    return module._explain(LaunchError(errno.EACCES, "exec"), job)


def test_a_directory_of_path_that_may_not_be_entered_hides_nothing(tmp_path):
    problem = explained(tmp_path, "no-such-trainer", f"/nowhere:{tmp_path}")
    assert "not found: no-such-trainer" in problem.evidence
    assert f"PATH=/nowhere:{tmp_path}" in problem.hint


def test_a_file_that_may_not_be_executed_is_said(tmp_path):
    (tmp_path / "trainer").write_text("x")
    assert "not executable" in explained(tmp_path, "trainer", str(tmp_path)).evidence
    assert "not executable" in explained(tmp_path, "./trainer", "").evidence
