"""Judging an ended job takes time in proportion to the log's end, whatever is in it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_agent.protocol.job import CAUSES, FINAL
from remote_agent.ranks import ACCELERATE, ATTEMPT_FAILED, LAUNCHER_LINE, ROOT_CAUSE, first_failure
from remote_agent.runtimes.base import Ending
from remote_agent.verdict import LOG_TAIL, MAX_EVIDENCE, Evidence, judge

TRACEBACK = b"Traceback (most recent call last):\n"
SIZES = (LOG_TAIL // 16, LOG_TAIL)
LINEAR = 16
MARGIN = 4
"""16 times the bytes: linear work takes 16 times as long, quadratic 256 times."""

FRAGMENTS = st.sampled_from(
    [
        b"a", b".", b":", b" ", b"\n", b"\r", b"\r\n", b"\t", b"\0", b"\xff", b"\x1b[31m",
        b"CUDA out of memory", b"CUDA", b"Stop", b"Error", b"ENOSPC", b"Errno 28]",
        b"No space left on device", TRACEBACK, b"ValueError: x", b"_" * 3000, b"\xe2\x82" * 900,
    ]
)  # fmt: skip


def judged(tail, **others):
    return judge(Evidence(Ending(exit_code=1), log_tail=tail, **others))


def seconds(tail):
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(5):
            judged(tail)
        best = min(best, time.process_time() - began)
    return best


@pytest.mark.parametrize(
    "unit",
    [
        b"a",
        b"a.",
        b"aStop",
        b"CUDA ",
        b"CUDA out of memory ",
        b"ENOSPC",
        b"\r",
        b"\n",
        b" \n",
        b":",
    ],
)
@pytest.mark.parametrize("begin", [b"", TRACEBACK, TRACEBACK * 2 + b"E"])
def test_time_grows_with_the_size_only(unit, begin):
    small, large = (begin + (unit * size)[:size] for size in SIZES)
    assert seconds(large) < LINEAR * MARGIN * max(seconds(small), 20e-6)


def test_a_kernel_line_of_one_unclosed_bracket_after_another():
    small, large = ("NVRM: Xid (" * count for count in (500, 8000))

    def took(line):
        began = time.process_time()
        judged(b"", kernel_lines=(line,) * 5, pci=frozenset({"0000:05:00"}))
        return time.process_time() - began

    assert min(took(large) for _ in range(5)) < LINEAR * MARGIN * max(
        min(took(small) for _ in range(5)), 20e-6
    )


@given(st.lists(FRAGMENTS | st.binary(max_size=40), max_size=60).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_any_log_gets_a_short_clean_verdict(tail):
    state, verdict = judged(tail)
    assert state in FINAL
    assert verdict.cause in CAUSES
    assert len(verdict.evidence) <= MAX_EVIDENCE + 1
    assert all(character.isprintable() for character in verdict.evidence)


@pytest.mark.parametrize("begin", [b"", b"x" * 70000, b"x\r" * 5000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\ncleaning up\n", b"\rmore"])
def test_a_phrase_is_found_and_shown_wherever_it_stands(begin, end):
    verdict = judged(begin + b"RuntimeError: CUDA out of memory. Tried 2 GiB" + end)[1]
    assert verdict.cause == "cuda-out-of-memory"
    assert "CUDA out of memory. Tried 2 GiB" in verdict.evidence
    assert "cleaning" not in verdict.evidence
    assert "more" not in verdict.evidence


SUMMARY = ROOT_CAUSE + b"\n  rank      : 1 (local_rank: 1)\n  exitcode  : 1 (pid: 7)\n"
CALLED = b"subprocess.CalledProcessError: "


@pytest.mark.parametrize("end", [b"", SUMMARY])
@pytest.mark.parametrize(
    "unit",
    [
        b"a",
        b"\n",
        b"[rank1]: x\n",
        b"[rank2]:",
        ROOT_CAUSE,
        LAUNCHER_LINE,
        ATTEMPT_FAILED + b"\n",
        CALLED + b"x\n",
        TRACEBACK + ACCELERATE + b"\n" + CALLED,
        b"  rank      : ",
    ],
)
def test_a_launchers_log_is_read_in_time_that_grows_with_its_size_only(unit, end):
    small, large = (ACCELERATE + (unit * size)[:size] + end for size in SIZES)

    def took(log):
        began = time.process_time()
        for _ in range(5):
            first_failure(log)
        return time.process_time() - began

    small_s = min(took(small) for _ in range(5))
    assert min(took(large) for _ in range(5)) < LINEAR * MARGIN * max(small_s, 20e-6)
