"""One program run: wall time, CPU time, peak memory, threads, output."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

THREADS_POLL_S = 0.01
TOLD = 2000


@dataclass(frozen=True)
class Run:
    """Seconds of wall and CPU time (its own children's included), MiB of the largest process."""

    seconds: float
    cpu_s: float
    peak_mib: float
    threads: int
    exit_code: int
    stdout: str
    stderr: str

    def last_words(self) -> str:
        """The end of both outputs, for a complaint."""
        return f"{self.stdout[-TOLD:]}\n{self.stderr[-TOLD:]}"


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
) -> Run:
    """Run to the end; output goes to files, so that no pipe slows the program."""
    with TemporaryFile() as source, TemporaryFile() as output, TemporaryFile() as errors:
        source.write(stdin)
        source.seek(0)
        started = time.perf_counter()
        process = subprocess.Popen(
            words,
            stdin=source,
            stdout=output,
            stderr=errors,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        watch = _ThreadCount(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
        return Run(
            seconds=seconds,
            cpu_s=used.ru_utime + used.ru_stime,
            peak_mib=used.ru_maxrss / 1024,
            threads=watch.most,
            exit_code=process.returncode,
            stdout=_text(output),
            stderr=_text(errors),
        )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


class _ThreadCount:
    """The most threads that a process was seen to have."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._tasks = Path(f"/proc/{pid}/task")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(THREADS_POLL_S):
            try:
                self.most = max(self.most, len(os.listdir(self._tasks)))
            except OSError:
                return
