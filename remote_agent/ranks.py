"""What torchrun's log tells about the rank that failed first. Pure; linear in the log's length.

torchrun ends its log with a summary; see ``ChildFailedError`` in
https://docs.pytorch.org/docs/stable/elastic/errors.html. PyTorch puts ``[rankN]:`` before every
line of an uncaught exception once the process group exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

ROOT_CAUSE = b"Root Cause (first observed failure):"
SUMMARY_LIMIT = 4096
"""Bytes of the summary that are read; its six lines have about 400."""
LAUNCHER_LINE = b"torch/distributed/elastic/multiprocessing/api.py"
"""Stands in every line that torchrun itself logs about its processes."""

RANK = re.compile(rb"^ {1,4}rank {1,8}: (\d{1,6}) \(local_rank: \d{1,6}\)", re.MULTILINE)
EXIT_CODE = re.compile(rb"^ {1,4}exitcode {1,8}: (-?\d{1,6}) ", re.MULTILINE)


@dataclass(frozen=True)
class RankFailure:
    """``exit_code`` is None where a signal ended the rank, and ``signal`` where none did.
    ``log``: what the rank printed as far as it can be told apart, else what was printed before
    torchrun reported the failure."""

    rank: int
    exit_code: Optional[int]
    signal: Optional[int]
    log: bytes


def first_failure(log_tail: bytes) -> Optional[RankFailure]:
    """The failure that torchrun names as the root cause; None where the log has no summary."""
    before, found, after = log_tail.rpartition(ROOT_CAUSE)
    if not found:
        return None
    summary = after[:SUMMARY_LIMIT]
    rank, code = RANK.search(summary), EXIT_CODE.search(summary)
    if rank is None or code is None:
        return None
    number, status = int(rank.group(1)), int(code.group(1))
    return RankFailure(
        number,
        exit_code=status if status >= 0 else None,
        signal=-status if status < 0 else None,
        log=_of_rank(number, _before_launcher(before)),
    )


def _before_launcher(text: bytes) -> bytes:
    """Whole lines up to the first one that torchrun logged about its processes."""
    end = text.find(LAUNCHER_LINE)
    return text if end < 0 else text[: text.rfind(b"\n", 0, end) + 1]


def _of_rank(rank: int, text: bytes) -> bytes:
    prefix = b"[rank%d]:" % rank
    lines = [line for line in text.splitlines(keepends=True) if line.startswith(prefix)]
    return b"".join(_without(prefix, line) for line in lines) or text


def _without(prefix: bytes, line: bytes) -> bytes:
    rest = line[len(prefix) :]
    return rest[1:] if rest.startswith(b" ") else rest
