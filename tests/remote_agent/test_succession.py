"""Dispatchers of other versions make room for jobs that they do not understand."""

from __future__ import annotations

import pytest

from remote_agent import operations
from remote_agent.layout import Layout
from remote_agent.operations import Operations
from remote_agent.protocol.job import ImagePlan, JobSpec
from remote_agent.store import JobStore


@pytest.mark.parametrize(
    ("plan", "called"),
    [(ImagePlan(sender="ann@laptop"), ["end others", "start"]), (None, ["start"])],
)
def test_a_contact_ends_those_that_would_not_start_a_queued_job(
    tmp_path, monkeypatch, plan, called
):
    layout = Layout.open(str(tmp_path / "state"))
    spec = JobSpec("job-1", "one", ("true",), image="x:1", image_plan=plan)
    JobStore(layout).create(spec, "boot")
    seen = []
    monkeypatch.setattr(operations, "end_other_dispatchers", lambda _: seen.append("end others"))
    monkeypatch.setattr(operations, "start_dispatcher", lambda _: seen.append("start"))
    Operations(layout, lambda event: None, lambda request: None, lambda: False).begin()
    assert seen == called
