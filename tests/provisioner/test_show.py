"""Results as text and JSON: complete, aligned, and harmless whatever a host says."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner import show, show_hosts
from provisioner.errors import ConnectError, HostKeyChanged, StepFailed
from provisioner.report import HostReport, StepReport
from provisioner.text import LINE_LIMIT, printable
from provisioner.verify import Proof
from remote_agent.protocol.job import ImagePlan, JobRecord, JobSpec, Verdict

HOSTILE = "\x1b[2J\x1b]0;title\x07red\x9b31m\u202eevil\r\nnext\tcolumn\x00"
STEPS = (
    StepReport("docker", "ok", "Docker 29.7.2 answers"),
    StepReport("driver", "would-change", "no NVIDIA driver", ("sudo apt-get install x",)),
    StepReport("toolkit", "blocked", "containers run", what_to_do="stop them"),
)


def record(**changes: Any) -> JobRecord:
    spec = JobSpec(job_id="train-1", name="train", argv=("python3", "train.py"), gpus=2)
    values: dict[str, Any] = {"spec": spec, "state": "running", "created_at": 10.0, **changes}
    return JobRecord(**values)


def test_a_plan_shows_what_would_be_done_and_what_a_person_must_do() -> None:
    text = show_hosts.host_report(HostReport("gpu01", STEPS, seconds=1.26))
    assert text.splitlines() == [
        "gpu01: BLOCKED, 1 change(s) to make, 1.3 s",
        "  = docker: Docker 29.7.2 answers",
        "  ~ driver: no NVIDIA driver",
        "      sudo apt-get install x",
        "  ! toolkit: containers run",
        "      try: stop them",
    ]


def test_a_finished_host_shows_its_proofs() -> None:
    steps = (StepReport("driver", "changed", "no NVIDIA driver", ("sudo x",)),)
    text = show_hosts.host_report(HostReport("gpu01", steps, (Proof("a container sees 1 GPU"),)))
    assert text.startswith("gpu01: ok, 1 change(s), ")
    assert "  + driver: no NVIDIA driver -> done\n" in text
    assert "  = verified: a container sees 1 GPU" in text
    assert "SIMULATED" not in text


def test_practice_gpus_are_marked_in_title_and_proof() -> None:
    report = HostReport("lab01", (), (Proof("sees 1 GPU", simulated=True),), simulated=True)
    title, proof = show_hosts.host_report(report).splitlines()
    assert "SIMULATED GPUs: this proves the plumbing, not a GPU" in title
    assert proof.endswith("[SIMULATED]")
    assert show_hosts.host_report_json(report)["simulated"] is True
    assert show_hosts.host_report_json(report)["proofs"][0]["simulated"] is True


def test_what_was_not_proven_is_not_called_verified() -> None:
    text = show_hosts.host_report(HostReport("gpu01", (), (Proof("a product", proven=False),)))
    assert "  - not proven: a product" in text
    assert "verified" not in text


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=12), "12 min ago"),
        (timedelta(hours=3, minutes=59), "3 h ago"),
        (timedelta(days=40), "40 d ago"),
        (timedelta(hours=-2), "just now"),
    ],
)
def test_a_recorded_proof_says_when_it_was_shown(moment: timedelta, shown: str) -> None:
    at = (datetime.now(timezone.utc) - moment).isoformat(timespec="seconds")
    text = show_hosts.host_report(HostReport("gpu01", (), (Proof("sees 1 GPU", recorded_at=at),)))
    assert f"[shown {shown} on this very state; --verify shows it again]" in text


def test_a_moment_that_is_none_is_shown_as_it_is() -> None:
    proof = Proof("sees 1 GPU", recorded_at="\x1b[31mlong ago")
    text = show_hosts.host_report(HostReport("gpu01", (), (proof,)))
    assert "long ago" in text
    assert "\x1b" not in text


def test_an_error_shows_message_and_remedy_under_its_host() -> None:
    error = StepFailed("apt broke\nE: no space", host="gpu01", remedy="df -h")
    report = HostReport("gpu01", STEPS[:1], error=error, transcript="/t/gpu01.log")
    text = show_hosts.host_report(report)
    assert text.startswith("gpu01: FAILED")
    assert "  x apt broke\n        E: no space\n    try: df -h" in text
    assert text.endswith("transcript: /t/gpu01.log")


def test_a_report_as_json_says_the_same() -> None:
    error = HostKeyChanged("changed", host="gpu01", remedy="ask")
    found = json.loads(
        show.as_json(show_hosts.host_report_json(HostReport("gpu01", STEPS, error=error)))
    )
    assert (found["host"], found["exit_code"], found["changed"]) == ("gpu01", 3, 1)
    assert found["error"] == {
        "kind": "HostKeyChanged",
        "host": "gpu01",
        "message": "changed",
        "remedy": "ask",
        "exit_code": 3,
    }
    assert found["steps"][1]["actions"] == ["sudo apt-get install x"]


def test_errors_name_their_host_once() -> None:
    error = ConnectError("no answer", host="gpu01", remedy="switch it on")
    assert show.error_text(error) == "gpu01: no answer\ntry: switch it on"
    assert show.error_text(error, with_host=False) == "no answer\ntry: switch it on"
    assert show.error_text(ConnectError("no answer")) == "no answer"
    assert show.error_json(None) is None


def test_columns_are_aligned_and_nothing_trails() -> None:
    text = show.table([("A", "LONGER", "C"), ("xxxx", "y", "z"), ("", "", "")])
    assert text == "A     LONGER  C\nxxxx  y       z\n"


def test_jobs_newest_first_with_what_matters() -> None:
    verdict = Verdict("cuda-out-of-memory", exit_code=1)
    rows = [
        ("a", record(created_at=1.0)),
        ("b", record(created_at=2.0, started_at=100.0, ended_at=3761.0, gpu_ids=(0, 3),
                     state="failed", verdict=verdict)),
    ]  # fmt: skip
    head, newest, oldest = show.job_table(rows).splitlines()
    assert head.split() == ["JOB", "HOST", "STATE", "GPUS", "STARTED", "TIME", "WHY"]
    assert newest.split()[1:4] == ["b", "failed", "0,3"]
    assert newest.endswith("1:01:01  cuda-out-of-memory")
    assert oldest.split() == ["train-1", "a", "running", "2", "-", "-"]
    assert "invoke train" in show.job_table([])


def test_a_job_described() -> None:
    verdict = Verdict("disk-full", evidence="No space left", hint="free some")
    text = show.describe_job("gpu01", record(state="failed", verdict=verdict, log_bytes=7))
    for part in ("python3 train.py", "gpu01", "disk-full", "No space left", "free some", "7 bytes"):
        assert part in text
    assert "waiting" in show.describe_job("gpu01", record())


def test_how_a_job_ended() -> None:
    done = record(state="succeeded", started_at=0.0, ended_at=62.0, verdict=Verdict("success"))
    assert show.describe_end("gpu01", done) == "train-1 on gpu01: succeeded after 1:02"
    failed = record(state="failed", verdict=Verdict("xid", evidence="Xid 79", hint="reboot"))
    assert show.describe_end("gpu01", failed).splitlines()[1:] == ["xid: Xid 79", "try: reboot"]


CONTROL = [chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) != "\n"]


def harmless(text: str) -> bool:
    return not any(character in text for character in [*CONTROL, "\u202e", "\u2066", "\ufeff"])


@pytest.mark.parametrize(
    "shown",
    [
        show_hosts.host_report(
            HostReport(
                "gpu01",
                (
                    StepReport("x", "would-change", HOSTILE, (HOSTILE,)),
                    StepReport("x", "blocked", HOSTILE, what_to_do=HOSTILE),
                ),
                (Proof(HOSTILE),),
                error=StepFailed(HOSTILE, remedy=HOSTILE),
            )
        ),
        show.error_text(StepFailed(HOSTILE, host="gpu01", remedy=HOSTILE)),
        show.table([("A",), (HOSTILE,)]),
        show.describe_job("gpu01", record(verdict=Verdict("x", evidence=HOSTILE, hint=HOSTILE))),
        show.describe_end("gpu01", record(verdict=Verdict("x", evidence=HOSTILE, hint=HOSTILE))),
        show.describe_end("gpu01", record(verdict=Verdict(HOSTILE))),
        show.describe_end("gpu01", record(state=HOSTILE)),
        show.job_table([("a", record(state=HOSTILE, verdict=Verdict(HOSTILE)))]),
    ],
)
def test_what_a_host_says_cannot_drive_the_terminal(shown: str) -> None:
    assert harmless(shown)


@pytest.mark.parametrize("shown", [show.table([("A", "B"), (HOSTILE, "b")])])
def test_a_line_break_in_a_cell_stays_in_its_row(shown: str) -> None:
    assert len(shown.splitlines()) == 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_printable_text_is_harmless_and_keeps_its_letters(text: str) -> None:
    shown = printable(text)
    assert harmless(shown)
    assert printable(shown) == shown
    if text.isalnum():
        assert shown == text


def test_endless_text_is_cut() -> None:
    assert len(printable("x" * 10**6)) == LINE_LIMIT + 1
    assert printable("x" * LINE_LIMIT) == "x" * LINE_LIMIT


def test_values_of_the_protocol_are_json() -> None:
    found = json.loads(show.as_json({"job": record(), "step": STEPS[0], "path": object}))
    assert found["job"]["spec"]["argv"] == ["python3", "train.py"]
    assert found["step"]["step"] == "docker"
    assert dataclasses.asdict(STEPS[0]).keys() == found["step"].keys()


def test_values_of_environment_variables_never_show() -> None:
    spec = JobSpec("job-1", "job", ("python", "x.py"), env={"HF_TOKEN": "supersecret"})
    text = show.as_json({"job": JobRecord(spec, "running", 0.0)})
    assert "supersecret" not in text
    assert "HF_TOKEN" in text


def test_arguments_of_a_build_are_not_shown() -> None:
    plan = ImagePlan(pull="a:1", build_args={"HTTP_PROXY": "http://ann:hunter2@proxy"})
    spec = JobSpec(job_id="train-1", name="train", argv=("x",), image_plan=plan)
    text = show.as_json(JobRecord(spec, "queued", 1.0))
    assert "HTTP_PROXY" in text
    assert "hunter2" not in text
