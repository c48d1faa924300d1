"""Jobs of several ranks under a real torchrun, on the CPU."""

from __future__ import annotations

import sys

import pytest

from remote_agent.protocol.job import JobSpec

pytest.importorskip("torch")

SAVES = """
import os, pathlib, signal, sys, time

rank, saved = os.environ["RANK"], []

def save(number, frame):
    saved.append(number)
    if len(saved) == 1:
        pathlib.Path("outputs", "checkpoint-" + rank).write_text("step 7")
        print("rank", rank, "saved", flush=True)
        sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("rank", rank, "ready", flush=True)
while True:
    time.sleep(0.05)
"""
RAISES = """
import os, time

if os.environ["RANK"] == "1":
    raise ValueError("bad batch")
time.sleep(600)
"""


def torchrun(job_id: str, script: str) -> JobSpec:
    """The script is written by a shell, so that no snapshot is needed."""
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return JobSpec(
        job_id,
        job_id,
        (sys.executable, *words, "--no-python", sys.executable, "-c", script),
    )


def test_a_stop_lets_both_ranks_save_their_checkpoint(agent, bench, until):
    agent.submit(torchrun("job-a", SAVES))
    until(lambda: agent.read_log("job-a", 0).data.count(b"ready") == 2)
    record = agent.stop("job-a", grace_s=30.0)
    assert (record.state, record.verdict.cause) == ("stopped", "stopped-by-user")
    outputs = bench.job_dir("job-a") / "outputs"
    assert sorted(path.name for path in outputs.iterdir()) == ["checkpoint-0", "checkpoint-1"]


def test_the_verdict_names_the_rank_that_failed_first_and_its_message(agent, finished):
    agent.submit(torchrun("job-a", RAISES))
    record = finished(agent, "job-a")
    assert record.state == "failed"
    assert record.verdict.evidence == "rank 1 failed first: ValueError: bad batch"
    assert (record.verdict.cause, record.verdict.exit_code) == ("exit-code", 1)
