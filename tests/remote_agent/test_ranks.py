"""The rank that failed first, told from torchrun's log. The logs are captured, torch 2.13."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from remote_agent.ranks import first_failure, is_launcher

CASES = Path(__file__).resolve().parent.parent / "cases" / "torchrun"


def _log(name: str) -> bytes:
    return CASES.joinpath(name + ".log").read_bytes()


def test_a_rank_that_raised() -> None:
    failure = first_failure(_log("raise"))
    assert failure is not None
    assert (failure.rank, failure.exit_code, failure.signal) == (1, 1, None)
    assert failure.log.rstrip().endswith(b"RuntimeError: the data is empty")


def test_a_rank_that_was_killed() -> None:
    failure = first_failure(_log("kill"))
    assert failure is not None
    assert (failure.rank, failure.exit_code, failure.signal) == (1, None, signal.SIGKILL)
    assert b"ChildFailedError" not in failure.log


def test_the_last_of_several_attempts_counts() -> None:
    failure = first_failure(_log("restarts"))
    assert failure is not None
    assert (failure.rank, failure.pid) == (1, 26790)
    assert b"attempt 1" in failure.log
    assert b"attempt 0" not in failure.log


def test_a_rank_without_words_of_its_own_gets_none_of_another() -> None:
    log = _log("prefixed").replace(
        b"rank      : 0 (local_rank: 0)", b"rank      : 7 (local_rank: 7)"
    )
    failure = first_failure(log)
    assert failure is not None
    assert b"Traceback" not in failure.log


def test_accelerate_with_one_process() -> None:
    failure = first_failure(_log("accelerate"))
    assert failure is not None
    assert (failure.rank, failure.exit_code, failure.signal) == (None, 1, None)
    assert failure.log.endswith(b"ValueError: bad batch\n")
    ended = b"returned non-zero exit status 1."
    assert ended in _log("accelerate")
    failure = first_failure(_log("accelerate").replace(ended, b"died with <Signals.SIGKILL: 9>."))
    assert failure is not None
    assert (failure.exit_code, failure.signal) == (None, 9)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python -m torch.distributed.run --standalone --nproc-per-node=2 train.py", True),
        ("/venv/bin/python -u -m torch.distributed.run train.py", True),
        ("python -m accelerate.commands.launch --num_processes=2 train.py", True),
        ("/opt/bin/torchrun --nproc_per_node=2 train.py", True),
        ("accelerate launch train.py", True),
        ("python train.py", False),
        ("python -m train torch.distributed.run", False),
        ("sh torchrun", False),
        ("", False),
    ],
)
def test_launchers_are_known_by_their_command_line(line: str, expected: bool) -> None:
    assert is_launcher(line.split()) is expected


def test_the_lines_of_other_ranks_are_left_out() -> None:
    failure = first_failure(_log("prefixed"))
    assert failure is not None
    assert failure.rank == 0
    assert failure.log.startswith(b"Traceback (most recent call last):\n")
    assert failure.log.endswith(b"ValueError: bad batch of rank 0\n")


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"step 1 loss 0.5\n",
        b"Root Cause (first observed failure):",
        b"Root Cause (first observed failure):\n  rank      : x (local_rank: 1)\n",
        b"Root Cause (first observed failure):\n  rank      : 1 (local_rank: 1)\n",
        b"Root Cause (first observed failure):\n[0]:\n"
        b"  rank      : 0 (local_rank: 0)\n  exitcode  : 0 (pid: 7)\n",
        b"Traceback (most recent call last):\n  accelerate/commands/launch.py\n"
        b"subprocess.CalledProcessError: x returned non-zero exit status 0.\n",
    ],
)
def test_a_log_without_a_whole_summary_tells_nothing(log: bytes) -> None:
    assert first_failure(log) is None


def test_the_launchers_banner_is_no_rank_speaking() -> None:
    log = (CASES / "exit.log").read_bytes().replace(b"no data in /data\n", b"")
    found = first_failure(log)
    assert found is not None
    assert found.log.strip() == b""
    newer = log.replace(b"\n***", b"\nW1128 00:55:36.8 27113 torch/distributed/run.py:851] ***")
    assert newer != log
    again = first_failure(newer)
    assert again is not None
    assert b"***" not in again.log


def test_damaged_logs_never_raise() -> None:
    source, rng = _log("prefixed"), random.Random(7)
    for _ in range(300):
        data = bytearray(source)
        for _ in range(rng.randrange(1, 40)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        first_failure(bytes(data[rng.randrange(len(data)) :]))
