"""What watchers of the job list are told."""

from __future__ import annotations

from dataclasses import replace

from remote_agent.protocol.job import QUEUED, JobRecord, JobSpec
from remote_agent.watching import Changes

RECORD = JobRecord(JobSpec("job-a", "a", ("true",)), QUEUED, 1.0)


def test_another_reason_to_wait_is_news() -> None:
    changes = Changes()
    changes.since_last([RECORD])
    news = changes.since_last([replace(RECORD, waiting_for="pulling 5 of 12 layers of x:1")])
    assert news is not None
    assert [told["waiting_for"] for told in news["changed"]] == ["pulling 5 of 12 layers of x:1"]


def test_a_longer_log_alone_is_none() -> None:
    changes = Changes()
    changes.since_last([RECORD])
    assert changes.since_last([replace(RECORD, log_bytes=5)]) is None
