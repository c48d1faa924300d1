"""Every error a user of rigup can meet.

::

    RigupError                     exit 1: a host or a job failed
     ├── UsageError                exit 2: what was asked makes no sense
     ├── BlockedError              exit 3: a person must act first
     │    ├── UnknownHostKey
     │    ├── HostKeyChanged
     │    ├── RebootRequired
     │    └── RebootPending        asked for, and not over yet
     ├── Interrupted               exit 130: stopped between two actions
     │    └── OutOfTime            exit 1: by the host's own deadline
     ├── TransportError
     │    ├── ConnectError         the host could not be reached
     │    ├── AuthError            reached, but we may not log in
     │    ├── SudoError            logged in, but may not become root
     │    ├── ConnectionLost       the link broke in the middle
     │    └── CommandTimeout
     ├── CommandFailed             a command ran and did not succeed
     ├── StepFailed                a provisioning step did not converge
     ├── AgentError                the remote agent refused or broke
     └── LabError                  a practice host could not be made

Inventory errors live in :mod:`inventory.errors` (that package imports no sibling) and carry
the same three attributes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioner.command import Result


class ExitCode(IntEnum):
    """Exit codes of every command; see the README."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BLOCKED = 3
    INTERRUPTED = 130


class RigupError(Exception):
    """What happened, on which host, and what to try.

    ``remedy`` is one or more lines a person can act on; ``host`` is the inventory name.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, host: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.host = host
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.host}: " if self.host else ""
        remedy = f"\n  try: {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{remedy}"


class UsageError(RigupError):
    exit_code = ExitCode.USAGE


class BlockedError(RigupError):
    exit_code = ExitCode.BLOCKED


class UnknownHostKey(BlockedError):
    """The host offers a key that nobody pinned. ``fingerprint`` is ``SHA256:…``."""

    def __init__(self, message: str, *, fingerprint: str, host: str, remedy: str) -> None:
        super().__init__(message, host=host, remedy=remedy)
        self.fingerprint = fingerprint


class HostKeyChanged(BlockedError):
    """The host offers another key than the pinned one: always refused."""


class RebootRequired(BlockedError):
    """The rest of the plan needs a reboot that was not allowed."""


class RebootPending(BlockedError):
    """A reboot was asked for and the host has not come back from it yet."""


class Interrupted(RigupError):
    """Stopped between two actions; the next run goes on there."""

    exit_code = ExitCode.INTERRUPTED


class OutOfTime(Interrupted):
    exit_code = ExitCode.FAILED


class TransportError(RigupError):
    pass


class ConnectError(TransportError):
    pass


class AuthError(TransportError):
    pass


class SudoError(TransportError):
    pass


class ConnectionLost(TransportError):
    pass


class CommandTimeout(TransportError):
    pass


class CommandFailed(RigupError):
    """A command ended with a status it should not have; carries its :class:`Result`."""

    def __init__(self, result: Result, *, host: str, remedy: str | None = None) -> None:
        super().__init__(result.describe_failure(), host=host, remedy=remedy)
        self.result = result


class StepFailed(RigupError):
    pass


class AgentError(RigupError):
    """``code`` is the agent's own error code, such as ``no-such-job``."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "failed",
        host: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, host=host, remedy=remedy)
        self.code = code


class LabError(RigupError):
    pass
