"""A Session over a child process's pipes, for tests."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from pathlib import Path

from provisioner.errors import ConnectionLost


class SubprocessSession:
    """``kill`` is what a laptop's sudden death looks like from the host."""

    def __init__(self, argv: list[str], errors: Path, env: dict[str, str] | None = None) -> None:
        self._errors = errors
        self._closed = threading.Event()
        with errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env
            )

    def read(self, limit: int = 65536) -> bytes:
        assert self.process.stdout is not None
        try:
            return self.process.stdout.read1(limit)
        except ValueError:
            return b""

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise ConnectionLost("the agent process is gone") from error

    def stderr_tail(self) -> str:
        return self._errors.read_text(errors="replace")[-4096:]

    def exit_code(self) -> int | None:
        return self.process.poll()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.terminate()
        self.process.wait(5)
