"""Why jobs end."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from remote_agent.faults import CouldNotStart
from remote_agent.protocol.job import CAUSES
from remote_agent.ranks import first_failure
from remote_agent.runtimes.base import Ending
from remote_agent.verdict import Evidence, judge

TRACE = b"""Epoch 1:  50%|#####     |\r
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    model(x)
  File "model.py", line 9, in forward
    return self.layer(x)
"""
OOM = TRACE + (
    b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    b"capacity of 79.10 GiB\n"
)
XID = ("NVRM: Xid (PCI:0000:05:00): 79, pid=1234, GPU has fallen off the bus.",)
KILLED = Ending(signal=signal.SIGKILL)


@pytest.mark.parametrize(
    ("evidence", "state", "cause", "said"),
    [
        (Evidence(Ending(exit_code=0)), "succeeded", "success", ""),
        (Evidence(Ending(exit_code=0), log_tail=OOM), "succeeded", "success", ""),
        (Evidence(Ending(exit_code=1), stopped=True), "stopped", "stopped-by-user", ""),
        (Evidence(Ending(exit_code=1), log_tail=OOM), "failed", "cuda-out-of-memory", "2.00 GiB"),
        (
            Evidence(
                KILLED,
                oom_kills=1,
                kernel_lines=("Out of memory: Killed process 7 (python)",),
                pids=frozenset({7}),
            ),
            "failed",
            "host-out-of-memory",
            "Killed process 7",
        ),
        (Evidence(Ending(exit_code=137), oom_kills=1), "failed", "host-out-of-memory", "OOM"),
        (Evidence(KILLED), "failed", "signal", "SIGKILL"),
        (Evidence(Ending(exit_code=1), oom_kills=3), "failed", "exit-code", ""),
        (
            Evidence(Ending(exit_code=137, oom_killed=True)),
            "failed",
            "container-out-of-memory",
            "OOMKilled",
        ),
        (
            Evidence(Ending(exit_code=1), kernel_lines=XID, pci=frozenset({"0000:05:00"})),
            "failed",
            "xid",
            "fallen off",
        ),
        (Evidence(Ending(exit_code=1), kernel_lines=XID), "failed", "exit-code", ""),
        (
            Evidence(Ending(exit_code=1), kernel_lines=XID, pci=frozenset({"0000:06:00", ""})),
            "failed",
            "exit-code",
            "",
        ),
        (
            Evidence(
                KILLED,
                oom_kills=1,
                kernel_lines=("Out of memory: Killed process 8 (browser)",),
                pids=frozenset({7}),
            ),
            "failed",
            "signal",
            "SIGKILL",
        ),
        (
            Evidence(
                Ending(exit_code=1), log_tail=b"OSError: [Errno 28] No space left on device\n"
            ),
            "failed",
            "disk-full",
            "No space left",
        ),
        (
            Evidence(Ending(exit_code=1), log_tail=TRACE + b"KeyError: 'loss'\n[W] cleaning up\n"),
            "failed",
            "exit-code",
            "KeyError: 'loss'",
        ),
        (
            Evidence(Ending(exit_code=2), log_tail=b"a\nusage: x\n\n"),
            "failed",
            "exit-code",
            "usage",
        ),
        (Evidence(Ending(signal=signal.SIGSEGV)), "failed", "signal", "SIGSEGV"),
        (Evidence(Ending(signal=63)), "failed", "signal", "63"),
        (Evidence(Ending(), log_tail=TRACE + b"ValueError: x\n"), "lost", "lost", "ValueError: x"),
        (Evidence(Ending(unknown="Docker is away")), "lost", "lost", "Docker is away"),
        (
            Evidence(Ending(unknown="Docker is away"), stopped=True),
            "stopped",
            "stopped-by-user",
            "Docker is away",
        ),
        (Evidence(Ending(unknown="x"), going_down=True), "lost", "reboot", "going down"),
        (
            Evidence(Ending(exit_code=143, signal=15, outside="docker stop from outside")),
            "failed",
            "signal",
            "docker stop from outside (exit code 143)",
        ),
        (
            Evidence(Ending(exit_code=137, outside="docker rm -f"), log_tail=b"CUDA out of memory"),
            "failed",
            "signal",
            "docker rm -f",
        ),
        (Evidence(Ending(exit_code=0, outside="docker stop")), "succeeded", "success", ""),
        (
            Evidence(Ending(exit_code=137, signal=9)),
            "failed",
            "signal",
            "ended by SIGKILL, it or a program that it ran (exit code 137)",
        ),
        (
            Evidence(Ending(exit_code=137, signal=9), oom_kills=1),
            "failed",
            "host-out-of-memory",
            "OOM killer",
        ),
        (
            Evidence(Ending(could_not_start=CouldNotStart("program not found: x", "look"))),
            "failed",
            "could-not-start",
            "not found: x",
        ),
    ],
)
def test_verdicts(evidence, state, cause, said):
    found, verdict = judge(evidence)
    assert (found, verdict.cause) == (state, cause)
    assert said in verdict.evidence
    assert verdict.cause in CAUSES
    assert verdict.hint or state in ("succeeded", "stopped")


def test_user_code_xids_are_not_blamed_on_the_card():
    lines = ("NVRM: Xid (PCI:0000:05:00): 31, pid=1, MMU Fault",)
    seen = Evidence(Ending(exit_code=1), kernel_lines=lines, pci=frozenset({"0000:05:00"}))
    assert judge(seen)[1].cause == "exit-code"


def test_an_end_with_the_login_session_names_the_remedy():
    hint = judge(Evidence(Ending(signal=signal.SIGTERM)))[1].hint
    assert "enable-linger" in hint


def test_evidence_is_short_and_free_of_escape_sequences():
    tail = b"\x1b[31m" + b"CUDA out of memory " * 500
    evidence = judge(Evidence(Ending(exit_code=1), log_tail=tail))[1].evidence
    assert len(evidence) < 500
    assert "\x1b" not in evidence


def test_an_end_that_docker_did_not_tell_has_a_remedy_of_its_own():
    assert judge(Evidence(Ending(unknown="x", hint="run it again")))[1].hint == "run it again"
    assert "OOM killer" in judge(Evidence(Ending()))[1].hint
    assert "by itself" not in judge(Evidence(Ending()))[1].evidence


def test_a_job_that_ends_while_the_host_goes_down_is_lost_to_the_reboot():
    for ending in (Ending(signal=15), Ending(exit_code=143), Ending(exit_code=1)):
        state, verdict = judge(Evidence(ending, going_down=True))
        assert (state, verdict.cause) == ("lost", "reboot")
    assert judge(Evidence(Ending(exit_code=0), going_down=True))[0] == "succeeded"
    assert judge(Evidence(Ending(signal=15), stopped=True, going_down=True))[0] == "stopped"


FULL = "nothing could be written in /x when it ended: No space left on device"


@pytest.mark.parametrize(
    ("ending", "tail", "cause", "said"),
    [
        (Ending(exit_code=0), b"", "success", "may be incomplete"),
        (Ending(exit_code=3), b"epoch 1\n", "disk-full", FULL),
        (Ending(exit_code=3), TRACE + b"  File", "disk-full", FULL),
        (Ending(signal=signal.SIGBUS), b"", "disk-full", FULL),
        (Ending(signal=signal.SIGKILL), b"", "signal", "SIGKILL"),
        (Ending(signal=signal.SIGTERM), b"", "signal", "SIGTERM"),
        (
            Ending(exit_code=1),
            TRACE + b"ValueError: bad\n",
            "exit-code",
            "ValueError: bad; besides",
        ),
        (Ending(exit_code=1), OOM, "cuda-out-of-memory", "2.00 GiB"),
        (Ending(exit_code=1), b"cp: No space left on device\n", "disk-full", "cp: No space"),
    ],
)
def test_a_full_disk_is_evidence_where_nothing_else_explains_the_end(ending, tail, cause, said):
    state, verdict = judge(Evidence(ending, log_tail=tail, disk=FULL))
    assert (state == "succeeded") == (cause == "success")
    assert verdict.cause == cause
    assert said in verdict.evidence
    assert (verdict.exit_code, bool(verdict.hint)) == (ending.exit_code, True)


LOGS = Path(__file__).resolve().parent.parent / "cases" / "torchrun"


def of_first_rank(name, **others):
    """What is seen of a torchrun job: torchrun itself always ends with exit code 1."""
    log = (LOGS / f"{name}.log").read_bytes()
    return Evidence(Ending(exit_code=1), log_tail=log, first_rank=first_failure(log), **others)


@pytest.mark.parametrize(
    ("name", "cause", "said", "code", "ended_by"),
    [
        ("raise", "exit-code", "rank 1 failed first: RuntimeError: the data is empty", 1, None),
        ("prefixed", "exit-code", "rank 0 failed first: ValueError: bad batch of rank 0", 1, None),
        ("kill", "signal", "rank 1 failed first: ended by SIGKILL", None, "SIGKILL"),
        ("restarts", "exit-code", "rank 1 failed first: ValueError: bad batch, attempt 1", 1, None),
        ("exit", "exit-code", "rank 0 failed first: no data in /data", 3, None),
        ("accelerate", "exit-code", "ValueError: bad batch", 1, None),
    ],
)
def test_of_several_ranks_the_first_that_failed_is_judged(name, cause, said, code, ended_by):
    state, verdict = judge(of_first_rank(name))
    assert (state, verdict.cause, verdict.evidence) == ("failed", cause, said)
    assert (verdict.exit_code, verdict.signal) == (code, ended_by)
    assert verdict.hint


def test_a_rank_without_gpu_memory():
    verdict = judge(of_first_rank("oom"))[1]
    assert verdict.cause == "cuda-out-of-memory"
    assert verdict.evidence.startswith("rank 1 failed first: torch.OutOfMemoryError: CUDA out of")


def test_a_rank_that_the_kernel_killed_for_memory():
    lines = ("Out of memory: Killed process 30531 (python)",)
    seen = of_first_rank("kill", oom_kills=1, kernel_lines=lines, pids=frozenset({30531}))
    verdict = judge(seen)[1]
    assert verdict.cause == "host-out-of-memory"
    assert verdict.evidence == "rank 1 failed first: Out of memory: Killed process 30531 (python)"


def test_a_stop_a_reboot_and_a_success_are_the_whole_jobs():
    seen = of_first_rank("raise")
    assert judge(replace(seen, stopped=True))[1].evidence == "a stop was asked for"
    assert judge(replace(seen, going_down=True))[0] == "lost"
    assert judge(replace(seen, ending=Ending(exit_code=0)))[0] == "succeeded"
    assert judge(replace(seen, ending=Ending()))[0] == "lost"


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        (Ending(signal=9), "host-out-of-memory"),
        (Ending(exit_code=137, signal=9), "host-out-of-memory"),
        (Ending(exit_code=137), "host-out-of-memory"),
        (Ending(signal=11), "signal"),
        (Ending(exit_code=2), "exit-code"),
    ],
)
def test_a_launcher_that_ended_another_way_is_judged_itself(ending, cause):
    """A failure that it told of earlier, or that its program printed, is not why."""
    log = (LOGS / "raise.log").read_bytes() + b"epoch 1 loss 0.3\n" * 50
    seen = Evidence(ending, log_tail=log, first_rank=first_failure(log), oom_kills=1)
    verdict = judge(seen)[1]
    assert verdict.cause == cause
    assert verdict.exit_code == ending.exit_code
    assert "rank" not in verdict.evidence


def test_a_card_that_broke_is_named_with_the_rank():
    seen = of_first_rank("raise", kernel_lines=XID, pci=frozenset({"0000:05:00"}))
    verdict = judge(seen)[1]
    assert (verdict.cause, verdict.evidence[:22]) == ("xid", "rank 1 failed first: N")
