"""The seam between rigup and a host: run a command, move a file, open a byte session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Protocol

from provisioner.command import Command, Result

OutputSink = Callable[[bytes], None]


class Session(Protocol):
    """A running remote program's standard streams, as bytes. Safe for one reader and one writer."""

    def read(self, limit: int = 65536) -> bytes:
        """Block for the next 1 to ``limit`` bytes; ``b""`` at end of file.

        Raises :class:`~provisioner.errors.ConnectionLost` when the link broke.
        """

    def write(self, data: bytes) -> None:
        """Send all of ``data``; raises ConnectionLost when the link broke."""

    def stderr_tail(self) -> str:
        """The last few kilobytes that the program wrote to standard error."""

    def exit_code(self) -> int | None:
        """The program's exit code once it ended and said so, else None. Never blocks."""

    def close(self) -> None:
        """Close both directions; wakes a blocked reader. May be called twice, from any thread."""


class Transport(Protocol):
    """One host. Every method may raise a :class:`~provisioner.errors.TransportError`."""

    @property
    def host_name(self) -> str:
        """The inventory name of the host."""

    def run(
        self,
        command: Command,
        *,
        on_output: OutputSink | None = None,
    ) -> Result:
        """Run to the end and return the result, whatever the exit status.

        ``on_output`` receives stdout and stderr chunks as they come. A command's own
        ``timeout_s`` or ``patience_s`` (default: the host's command timeout) raises CommandTimeout.
        """

    def put(self, data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        """Write a whole file atomically (temporary name beside, fsync, rename), as the login user.

        A relative path is taken from the login user's home directory.
        """

    def get(self, path: PurePosixPath) -> bytes:
        """The whole content of a (small) file."""

    def open_session(self, command: Command) -> Session:
        """Start a program and hand over its streams."""

    def close(self) -> None:
        """Close the link; a later call opens a new one."""
