"""Commands are values: words that are quoted when rendered, and secrets that are never shown.

Nothing here runs anything; a :class:`~provisioner.transport.base.Transport` does.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

MASK = "***"
STDERR_LINES_SHOWN = 12
MAX_OUTPUT_BYTES = 8 << 20


@dataclass(frozen=True)
class Secret:
    """A value that travels on standard input only and shows as ``***`` everywhere."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__


@dataclass(frozen=True)
class Command:
    """One program with its arguments, or one shell script; rendered as a single exact shell line.

    ``words`` are quoted one by one. A script (:meth:`sh`) is passed as one quoted argument to
    ``sh -c``; its own ``args`` arrive as ``$1``, ``$2`` … so that no value is ever pasted into it.
    ``stdin`` is fed to the program and never shown. ``timeout_s`` is the command's own time limit,
    ``patience_s`` that of a question: the host's limit counts where it is shorter. A program that
    prints more than ``max_output_bytes`` on both streams together is given up.
    """

    words: tuple[str, ...]
    sudo: bool = False
    stdin: bytes | None = field(default=None, repr=False)
    timeout_s: float | None = None
    max_output_bytes: int = MAX_OUTPUT_BYTES
    patience_s: float | None = None

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("a command needs at least one word")
        if any("\0" in word for word in self.words):
            raise ValueError("a command's words cannot contain NUL")

    @classmethod
    def of(
        cls,
        *words: str,
        sudo: bool = False,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        patience_s: float | None = None,
    ) -> Command:
        return cls(words, sudo, stdin, timeout_s, max_output_bytes, patience_s)

    @classmethod
    def sh(
        cls,
        script: str,
        *args: str,
        sudo: bool = False,
        stdin: bytes | None = None,
        timeout_s: float | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        patience_s: float | None = None,
    ) -> Command:
        words = ("sh", "-c", script, "sh", *args) if args else ("sh", "-c", script)
        return cls(words, sudo, stdin, timeout_s, max_output_bytes, patience_s)

    def limit_s(self, default_s: float) -> float:
        """How long it may take where the host's limit is ``default_s``, in seconds."""
        return self.timeout_s or min(default_s, self.patience_s or default_s)

    def render(self) -> str:
        """The exact line for a POSIX shell, without sudo."""
        return shlex.join(self.words)

    def __str__(self) -> str:
        prefix = "sudo " if self.sudo else ""
        return f"{prefix}{self.render()}"


@dataclass(frozen=True)
class Result:
    """What a command did: its exit status and what it printed."""

    command: Command
    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def text(self) -> str:
        """Standard output as text; undecodable bytes become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def tail(self) -> str:
        """The last lines of standard error, of standard output where that is empty."""
        lines = (self.stderr or self.stdout).decode("utf-8", "replace").rstrip().splitlines()
        return "\n".join(lines[-STDERR_LINES_SHOWN:])

    def describe_failure(self) -> str:
        shown = "\n".join(f"    {line}" for line in self.tail.splitlines())
        return f"`{self.command}` exited with {self.exit_code}" + (f"\n{shown}" if shown else "")
