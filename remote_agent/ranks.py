"""What the log of a launcher tells about the rank that failed first. Pure; linear in the log's
length.

torchrun ends its log with a summary; see ``ChildFailedError`` in
https://docs.pytorch.org/docs/stable/elastic/errors.html. ``accelerate launch`` calls torchrun for
several processes. For one it starts the script itself, and ends with a CalledProcessError. PyTorch
puts ``[rankN]:`` before every line of an uncaught exception once the process group exists.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional, Sequence

MODULES = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
)
PROGRAMS = ("torchrun", "accelerate")
OPTIONS_BEFORE = 8
"""Words of a command line among which ``-m MODULE`` is looked for."""

ROOT_CAUSE = b"Root Cause (first observed failure):"
SUMMARY_LIMIT = 4096
"""Bytes of the summary that are read; its six lines have about 400."""
LAUNCHER_LINE = b"torch/distributed/elastic/multiprocessing/api.py"
"""Stands in every line that torchrun itself logs about its processes."""
ATTEMPT_FAILED = b"] failed (exitcode: "
"""In such a line: an attempt is over. There are several with ``--max-restarts``."""
TRACEBACK = b"Traceback (most recent call last):"
ACCELERATE = b"accelerate/commands/launch.py"

RANK = re.compile(rb"^ {1,4}rank {1,8}: (\d{1,6}) \(local_rank: \d{1,6}\)", re.MULTILINE)
EXIT_CODE = re.compile(rb"^ {1,4}exitcode {1,8}: (-?\d{1,6}) (?:\(pid: (\d{1,9})\))?", re.MULTILINE)
OTHERS_LINE = re.compile(rb"\[rank\d{1,6}\]:")
BANNER = re.compile(
    rb"(?:[WIE]\d{4} [^\]\n]{1,200}\] ?)?(?:\*{20,60}\r?$|Setting OMP_NUM_THREADS environment)",
    re.MULTILINE,
)
"""What torchrun prints at its start; see torch/distributed/run.py."""
CALLED_PROCESS = re.compile(
    rb"^subprocess\.CalledProcessError: .{0,60000} (?:returned non-zero exit status (\d{1,6})|"
    rb"died with <Signals\.[A-Z0-9]{1,20}: (\d{1,3})>)\.\r?$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class RankFailure:
    """``rank`` is None where there was only one process. ``exit_code`` is None where a signal ended
    the rank, and ``signal`` where none did. ``log``: what the rank printed as far as it can be told
    apart, else what was printed before the launcher reported the failure. ``pid``: its number where
    the launcher runs, 0 where it does not say."""

    rank: Optional[int]
    exit_code: Optional[int]
    signal: Optional[int]
    log: bytes
    pid: int = 0


def is_launcher(argv: Sequence[str]) -> bool:
    """Is this the command line of torchrun or accelerate?"""
    words = list(argv[:OPTIONS_BEFORE])
    if "-m" in words:
        return any(word in MODULES for word in words[words.index("-m") + 1 :][:1])
    return bool(words) and os.path.basename(words[0]) in PROGRAMS


def first_failure(log_tail: bytes) -> Optional[RankFailure]:
    """The failure that the launcher names as the root cause; None where the log tells none."""
    before, found, after = log_tail.rpartition(ROOT_CAUSE)
    if not found:
        return _only_process(log_tail)
    summary = after[:SUMMARY_LIMIT]
    rank, code = RANK.search(summary), EXIT_CODE.search(summary)
    if rank is None or code is None:
        return None
    number, status = int(rank.group(1)), int(code.group(1))
    if status == 0:  # then it did not fail
        return None
    return RankFailure(
        number,
        exit_code=status if status >= 0 else None,
        signal=-status if status < 0 else None,
        log=_of_rank(number, _before_launcher(_last_attempt(before))),
        pid=int(code.group(2) or 0),
    )


def _only_process(log_tail: bytes) -> Optional[RankFailure]:
    """Of accelerate with one process: its own traceback is the last one."""
    before, _, last = log_tail.rpartition(TRACEBACK)
    ended = CALLED_PROCESS.search(last) if ACCELERATE in last else None
    if ended is None:
        return None
    code, number = ended.groups()
    if int(code or number) == 0:
        return None
    return RankFailure(
        None,
        exit_code=None if code is None else int(code),
        signal=None if number is None else int(number),
        log=before,
    )


def _last_attempt(text: bytes) -> bytes:
    last = text.rfind(ATTEMPT_FAILED)
    previous = text.rfind(ATTEMPT_FAILED, 0, max(0, last))
    return text if previous < 0 else text[text.find(b"\n", previous) + 1 :]


def _before_launcher(text: bytes) -> bytes:
    """Whole lines up to the first one that torchrun logged about its processes."""
    end = text.find(LAUNCHER_LINE)
    return text if end < 0 else text[: text.rfind(b"\n", 0, end) + 1]


def _of_rank(rank: int, text: bytes) -> bytes:
    """Its own lines where they are marked, else those that are not marked as another's, nor the
    launcher's."""
    prefix = b"[rank%d]:" % rank
    lines = text.splitlines(keepends=True)
    own = [_without(prefix, line) for line in lines if line.startswith(prefix)]
    return b"".join(own or [line for line in lines if not _is_foreign(line)])


def _is_foreign(line: bytes) -> bool:
    return bool(OTHERS_LINE.match(line) or BANNER.match(line))


def _without(prefix: bytes, line: bytes) -> bytes:
    rest = line[len(prefix) :]
    return rest[1:] if rest.startswith(b" ") else rest
