"""Runs on a host: takes an image's frames from standard input and gives the bytes to Docker.

Python 3.8, standard library only; sent as ``python3 -c``. A frame is its length (4 bytes), how many
bytes of the image were sent with it, before compression (8 bytes), and the data; length 0 ends. A
link that breaks before that loads nothing; afterwards the load ends without a link. The optional
argument is a file for progress: the image's bytes so far, in decimal. It is written at most once a
second, and its time is renewed every few seconds, also while Docker unpacks.
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
"""Without a byte for so long, the link counts as broken; and Docker that takes none as hanging."""
LOAD_LIMIT_S = 1800.0
"""From the last byte until Docker has unpacked the image."""
TOO_LATE, NO_PROGRAM = 124, 127
"""Exit codes as those of timeout(1) and sh(1)."""
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


def read_exactly(size: int, progress: Progress) -> bytes:
    """Raises LinkBroke."""
    data = bytearray()
    while len(data) < size:
        await_input(progress)
        part = os.read(0, min(size - len(data), 1 << 20))
        if not part:
            raise LinkBroke
        data += part
    return bytes(data)


def await_input(progress: Progress) -> None:
    """Raises LinkBroke."""
    deadline = time.monotonic() + SILENCE_S
    while not select.select([0], [], [], ALIVE_S)[0]:
        if time.monotonic() >= deadline:
            raise LinkBroke
        progress.still_alive()


def give(loader: IO[bytes], data: bytes) -> None:
    """Raises LinkBroke where Docker takes too long, and BrokenPipeError where it gave up."""
    signal.alarm(int(SILENCE_S))
    try:
        loader.write(data)
    finally:
        signal.alarm(0)


def takes_too_long(*_: object) -> None:
    raise LinkBroke


def feed(loader: IO[bytes], progress: Progress) -> None:
    """All frames until the last. Raises LinkBroke, and BrokenPipeError where Docker gave up."""
    while True:
        head = read_exactly(HEAD_LENGTH, progress)
        size, count = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
        if size == 0:
            progress.write(count)
            return
        give(loader, read_exactly(size, progress))
        progress.report(count)


def main(path: str) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # also for Docker's client
    signal.signal(signal.SIGALRM, takes_too_long)
    progress = Progress(path)
    progress.write(0)
    with tempfile.TemporaryFile() as words:
        try:
            loader = subprocess.Popen(
                ["docker", "load", "--quiet"],
                stdin=subprocess.PIPE,
                stdout=words,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return conclude(str(error).encode(), NO_PROGRAM)
        assert loader.stdin is not None
        try:
            feed(loader.stdin, progress)
            loader.stdin.close()
        except LinkBroke:
            # Before its input ends, so that nothing takes half an image for a whole one.
            end(loader)
            with suppress(OSError):
                loader.stdin.close()
            return 1
        except BrokenPipeError:
            pass
        code = await_end(loader, progress)
        words.seek(0)
        said = words.read(1 << 16)
    if code == TOO_LATE:
        said += b"it did not end within %g s" % LOAD_LIMIT_S
    return conclude(said, code)


def await_end(loader: subprocess.Popen[bytes], progress: Progress) -> int:
    deadline = time.monotonic() + LOAD_LIMIT_S
    while True:
        try:
            return loader.wait(ALIVE_S)
        except subprocess.TimeoutExpired:
            progress.still_alive()
        if time.monotonic() >= deadline:
            end(loader)
            return TOO_LATE


def end(loader: subprocess.Popen[bytes]) -> None:
    os.killpg(loader.pid, signal.SIGKILL)
    loader.wait()


def conclude(said: bytes, code: int) -> int:
    with suppress(OSError):  # nobody may be listening any more
        os.write(1, said + b"\n" + END_MARK.encode() + b"%d\n" % code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
