"""A host's transcript: every command, its output and its exit status, secrets never."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from provisioner.command import Command, Result
from provisioner.errors import RigupError
from provisioner.transport.base import OutputSink, Session, Transport
from provisioner.transport.upload import put_command

OUTPUT_KEPT = 65536
URL_LOGIN = re.compile(r"://[^/\s\"']*@")
"""A host's own files may hold passwords in addresses (a proxy in daemon.json), and an ``@`` in
those."""


class Transcript:
    """An append-only 0600 text file. Standard input is never part of it."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.path = path
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace")
        self._clock = clock

    def note(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        self._file.write(f"{stamp} {text}\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RecordingTransport:
    """A transport that writes what it does into a transcript."""

    def __init__(self, inner: Transport, transcript: Transcript) -> None:
        self._inner = inner
        self._transcript = transcript

    @property
    def host_name(self) -> str:
        return self._inner.host_name

    def run(self, command: Command, *, on_output: OutputSink | None = None) -> Result:
        self._transcript.note(f"$ {command}")
        try:
            result = self._inner.run(command, on_output=on_output)
        except RigupError as error:
            self._transcript.note(f"= {error.message}")
            raise
        for line in _shown(result.stdout) + _shown(result.stderr):
            self._transcript.note(f"  {line}")
        self._transcript.note(f"= {result.exit_code}")
        return result

    def put(self, data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        self._transcript.note(f"$ {put_command(data, path, mode=mode)}")
        self._inner.put(data, path, mode=mode)

    def get(self, path: PurePosixPath) -> bytes:
        self._transcript.note(f"$ read {path}")
        return self._inner.get(path)

    def open_session(self, command: Command) -> Session:
        self._transcript.note(f"$ session: {command}")
        return self._inner.open_session(command)

    def close(self) -> None:
        self._inner.close()


def _shown(output: bytes) -> list[str]:
    text = output[-OUTPUT_KEPT:].decode("utf-8", "replace")
    return URL_LOGIN.sub("://***@", text).splitlines()
