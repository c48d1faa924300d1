"""Errors that the agent answers with, as a code for programs and a sentence for people."""

from __future__ import annotations


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
