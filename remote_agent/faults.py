"""Errors that the agent answers with, as a code for programs and a sentence for people."""

from __future__ import annotations

import os
import traceback

from remote_agent.protocol.values import ProtocolError

DAMAGE = (OSError, ValueError, KeyError, TypeError, ProtocolError)
"""What reading a job's files raises when they were cut short, emptied or edited by hand."""


STDERR = 2


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
