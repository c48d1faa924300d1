"""Package managers that outlive the connection: what they print always finds a reader.

When a client dies, its channel closes, and the next line that a program prints is answered with
SIGPIPE. apt-get does not mind (measured: it goes on to the end); dnf 4 dies of it, in the middle of
a transaction. So their output goes through readers on the host that go on reading for nobody.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from provisioner.command import Command, Result
from provisioner.transport.base import OutputSink, Session, Transport

PROGRAMS = frozenset(
    {"apt-get", "dpkg", "dnf", "rpm", "zypper", "update-initramfs", "dracut", "dkms"}
)
WORDS_SEEN = 8
"""The program stands behind `env` and its variables, or is the name of a script."""
SCRIPT = r"""
drain() { trap '' PIPE; cat; cat > /dev/null; }
exec 5>&1 6>&2
code=$(
  exec 3>&1
  {
    {
      { "$@" 3>&- 5>&- 6>&-; echo $? >&3; } 2>&1 1>&4 4>&- |
        drain >&6 2>/dev/null 3>&- 4>&-
    } 4>&1 | drain >&5 2>/dev/null 3>&-
  }
)
exit "$code"
"""
"""Exit code and both streams stay what they are: 3 carries the code, 4 standard output."""


def outliving(command: Command) -> Command:
    """``command`` so that it ends well without its reader, if it is one that must."""
    if not any(PurePosixPath(word).name in PROGRAMS for word in command.words[:WORDS_SEEN]):
        return command
    return replace(command, words=("sh", "-c", SCRIPT, "sh", *command.words))


class OutlivingTransport:
    """A transport whose package managers outlive it."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    @property
    def host_name(self) -> str:
        return self._inner.host_name

    def run(self, command: Command, *, on_output: OutputSink | None = None) -> Result:
        result = self._inner.run(outliving(command), on_output=on_output)
        return replace(result, command=command)

    def put(self, data: bytes, path: PurePosixPath, *, mode: int = 0o644) -> None:
        self._inner.put(data, path, mode=mode)

    def get(self, path: PurePosixPath) -> bytes:
        return self._inner.get(path)

    def open_session(self, command: Command) -> Session:
        return self._inner.open_session(command)

    def close(self) -> None:
        self._inner.close()
