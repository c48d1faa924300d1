"""Errors that the agent answers with, as a code for programs and a sentence for people."""

from __future__ import annotations

import errno
import os
import time
import traceback
from typing import Callable, Dict

from remote_agent.protocol.values import ProtocolError

DAMAGE = (OSError, ValueError, KeyError, TypeError, ProtocolError)
"""What reading a job's files raises when they were cut short, emptied or edited by hand."""


STDERR = 2
REPEAT_S = 300.0
MANY = 1000
_said: Dict[str, float] = {}

REMEDIES = {
    errno.ENOSPC: "the host's disk is full: see `df -h` and `df -i` there",
    errno.EDQUOT: "the user's quota on the host is used up: see `quota -s` there",
    errno.EROFS: "the host's disk is mounted read-only: see `mount` and `dmesg` there",
    errno.EIO: "the host's disk fails: see `dmesg` there",
}


def complain(text: str) -> None:
    """Standard error is for people: the client shows its end when the agent breaks.

    Never raises: it may be a file on a full disk, or a closed connection. Nothing is kept for
    later either, as a buffer would be, whose writing fails again when the process ends.
    """
    try:
        os.write(STDERR, (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        return


def complain_of_exception() -> None:
    """The exception that is being handled, with its traceback."""
    complain(traceback.format_exc())


def complain_rarely(text: str, clock: Callable[[], float] = time.monotonic) -> None:
    """For what is found again at every look: the same text once in :data:`REPEAT_S` seconds."""
    now = clock()
    if now - _said.get(text, -REPEAT_S) < REPEAT_S:
        return
    if len(_said) >= MANY:
        _said.clear()
    _said[text] = now
    complain(text)


def with_remedy(error: OSError) -> str:
    """The error for people, with where to look."""
    remedy = REMEDIES.get(error.errno or 0)
    return "%s; %s" % (error, remedy) if remedy else str(error)


class AgentFault(Exception):
    """``code`` is stable and documented in docs/agent.md; ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CouldNotStart(Exception):
    """A job could not be started: what was seen, and the next thing to try."""

    def __init__(self, evidence: str, hint: str) -> None:
        super().__init__(evidence)
        self.evidence = evidence
        self.hint = hint
