"""Runs on a host: takes an image's frames from standard input and gives the bytes to Docker.

Python 3.8, standard library only; sent as ``python3 -c``. A frame is its length (4 bytes), how many
bytes of the image were sent with it, before compression (8 bytes), and the data; length 0 ends. A
link that breaks before that loads nothing; afterwards the load ends without a link. The optional
argument is a file for progress: the image's bytes so far, in decimal. It is written at most once a
second, and its time is renewed while Docker unpacks.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

END_MARK = "rigup: docker load exited with "
HEAD_LENGTH = 12
SILENCE_S = 600.0
"""Without a byte for so long, the link counts as broken."""
REPORT_S = 1.0
ALIVE_S = 2.0


class LinkBroke(Exception):
    pass


class Progress:
    """The file in which the host's agent sees how far the image is; "" for none."""

    def __init__(self, path: str) -> None:
        self._path, self._written_at = path, -REPORT_S

    def report(self, count: int) -> None:
        now = time.monotonic()
        if now - self._written_at >= REPORT_S:
            self._written_at = now
            self.write(count)

    def write(self, count: int) -> None:
        if not self._path:
            return
        beside = f"{self._path}.{os.getpid()}"
        try:
            with open(beside, "w", encoding="ascii") as file:
                file.write(str(count))
            os.replace(beside, self._path)
        except OSError:  # a full disk or a missing folder stops no image
            with suppress(OSError):
                os.unlink(beside)

    def still_alive(self) -> None:
        if self._path:
            with suppress(OSError):
                os.utime(self._path)


def read_exactly(size: int) -> bytes:
    """Raises LinkBroke."""
    data = bytearray()
    while len(data) < size:
        ready = select.select([0], [], [], SILENCE_S)[0]
        part = os.read(0, min(size - len(data), 1 << 20)) if ready else b""
        if not part:
            raise LinkBroke
        data += part
    return bytes(data)


def feed(loader: IO[bytes], progress: Progress) -> None:
    """All frames until the last. Raises LinkBroke, and BrokenPipeError where Docker gave up."""
    while True:
        head = read_exactly(HEAD_LENGTH)
        size, count = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
        if size == 0:
            progress.write(count)
            return
        loader.write(read_exactly(size))
        progress.report(count)


def main(path: str) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # also for Docker's client
    progress = Progress(path)
    with tempfile.TemporaryFile() as words:
        loader = subprocess.Popen(
            ["docker", "load", "--quiet"],
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert loader.stdin is not None
        try:
            feed(loader.stdin, progress)
            loader.stdin.close()
        except LinkBroke:
            # Before its input ends, so that nothing takes half an image for a whole one.
            os.killpg(loader.pid, signal.SIGKILL)
            loader.wait()
            with suppress(OSError):
                loader.stdin.close()
            return 1
        except BrokenPipeError:
            pass
        code = await_end(loader, progress)
        words.seek(0)
        said = words.read(1 << 16) + b"\n" + END_MARK.encode() + b"%d\n" % code
    with suppress(OSError):  # nobody may be listening any more
        os.write(1, said)
    return 0


def await_end(loader: subprocess.Popen[bytes], progress: Progress) -> int:
    while True:
        try:
            return loader.wait(ALIVE_S)
        except subprocess.TimeoutExpired:
            progress.still_alive()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
