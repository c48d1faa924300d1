"""The machine rigup itself runs on, behind the same protocol: subprocesses, no SSH."""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from provisioner.command import Command, Result
from provisioner.errors import CommandFailed, CommandTimeout, ConnectionLost
from provisioner.transport.base import OutputSink, Session
from provisioner.transport.output import OutputBuffer
from provisioner.transport.upload import get_command, put_command

DEFAULT_TIMEOUT_S = 900.0
CLOSE_GRACE_S = 5.0
CHUNK = 65536


class LocalTransport:
    """Runs commands through ``sh`` in the home directory, as a login over SSH would.

    Sudo works where it needs no password.
    """

    def __init__(self, host_name: str = "localhost") -> None:
        self._host_name = host_name

    @property
    def host_name(self) -> str:
        return self._host_name

    def run(self, command: Command, *, on_output: OutputSink | None = None) -> Result:
        process = subprocess.Popen(
            ["sh", "-c", self._line(command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=Path.home(),
            start_new_session=True,
        )
        output = OutputBuffer(command, self._host_name, on_output)
        try:
            deadline = time.monotonic() + command.limit_s(DEFAULT_TIMEOUT_S)
            _LocalExchange(process, command.stdin or b"", output).run(deadline)
            process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            _end_all(process)
            if isinstance(error, subprocess.TimeoutExpired):
                message = f"`{command}` did not end in time"
                raise CommandTimeout(message, host=self._host_name) from error
            raise
        return output.result(process.returncode)

    def put(self, data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        self._check(self.run(put_command(data, path, mode=mode)))

    def get(self, path: PurePosixPath) -> bytes:
        return self._check(self.run(get_command(path))).stdout

    def open_session(self, command: Command) -> Session:
        return ProcessSession(["sh", "-c", command.render()])

    def close(self) -> None:
        """Nothing is held open."""

    def _line(self, command: Command) -> str:
        if not command.sudo:
            return command.render()
        inner = Command(("sudo", "-n", "--", *command.words)).render()
        return f'if [ "$(id -u)" -eq 0 ]; then exec {command.render()}; else exec {inner}; fi'

    def _check(self, result: Result) -> Result:
        if not result.ok:
            raise CommandFailed(result, host=self._host_name)
        return result


class ProcessSession:
    """A local process as a :class:`~provisioner.transport.base.Session`."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=Path.home(),
        )
        self._stderr = bytearray()
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()

    def read(self, limit: int = 65536) -> bytes:
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return b""
        return self._process.stdout.read(limit) or b""

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except (OSError, ValueError) as error:
            raise ConnectionLost("the program has ended") from error

    def stderr_tail(self) -> str:
        return self._stderr[-8192:].decode("utf-8", "replace")

    def exit_code(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(CLOSE_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._drain.join(CLOSE_GRACE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            while chunk := stderr.read(4096):
                self._stderr.extend(chunk)


class _LocalExchange:
    """One process's streams, until all of them have ended."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, output: OutputBuffer):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._stdin = memoryview(stdin)
        self._streams = selectors.DefaultSelector()
        self._streams.register(process.stdin, selectors.EVENT_WRITE, self._feed)
        take = {process.stdout: output.add_stdout, process.stderr: output.add_stderr}
        for stream, keep in take.items():
            self._streams.register(stream, selectors.EVENT_READ, partial(self._take, keep))

    def run(self, deadline: float) -> None:
        """Returns at the latest at ``deadline``, in seconds of ``time.monotonic``."""
        with self._streams:
            while self._streams.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in self._streams.select(left):
                    key.data(key.fileobj)

    def _feed(self, stream: IO[bytes]) -> None:
        try:
            written = os.write(stream.fileno(), self._stdin[: select.PIPE_BUF])
        except BrokenPipeError:
            written = len(self._stdin)
        self._stdin = self._stdin[written:]
        if not self._stdin:
            self._end(stream)

    def _take(self, keep: Callable[[bytes], None], stream: IO[bytes]) -> None:
        chunk = os.read(stream.fileno(), CHUNK)
        keep(chunk)
        if not chunk:
            self._end(stream)

    def _end(self, stream: IO[bytes]) -> None:
        self._streams.unregister(stream)
        stream.close()


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started (it leads a session of its own)."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
