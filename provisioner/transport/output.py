"""What a command printed, kept up to a limit."""

from __future__ import annotations

from provisioner.command import Command, Result
from provisioner.errors import TransportError
from provisioner.transport.base import OutputSink


class OutputBuffer:
    """Both streams of one command. ``on_output`` hears every chunk as it comes."""

    def __init__(self, command: Command, host_name: str, on_output: OutputSink | None) -> None:
        self._command = command
        self._host_name = host_name
        self._on_output = on_output
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._size = 0

    def add_stdout(self, chunk: bytes) -> None:
        """Raises TransportError beyond the command's ``max_output_bytes``, as add_stderr does."""
        self._add(self._stdout, chunk)

    def add_stderr(self, chunk: bytes) -> None:
        self._add(self._stderr, chunk)

    def result(self, exit_code: int) -> Result:
        return Result(self._command, exit_code, b"".join(self._stdout), b"".join(self._stderr))

    def _add(self, kept: list[bytes], chunk: bytes) -> None:
        if not chunk:
            return
        self._size += len(chunk)
        if self._size > self._command.max_output_bytes:
            raise TransportError(
                f"`{self._command}` printed more than {self._command.max_output_bytes} bytes "
                "and was given up",
                host=self._host_name,
                remedy="run it on the host and look at what it prints",
            )
        kept.append(chunk)
        if self._on_output is not None:
            self._on_output(chunk)
