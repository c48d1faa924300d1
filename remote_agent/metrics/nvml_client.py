"""Ask a helper process for GPU figures: a wedged driver hangs NVML calls for ever, and only a
process can be given up."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

from remote_agent.detach import own_command
from remote_agent.protocol.sample import GpuSample
from remote_agent.tasks import Wait

TIMEOUT_S = 10.0
QUIET_AFTER_HANG_S = 60.0
READ_SIZE = 1 << 16


class GpuReading:
    """``error`` says why there are no GPUs; ``error_number`` is nvmlReturn_t (nvml.h)."""

    def __init__(
        self,
        gpus: Tuple[GpuSample, ...] = (),
        driver_version: Optional[str] = None,
        error: Optional[str] = None,
        error_number: Optional[int] = None,
    ) -> None:
        self.gpus = gpus
        self.driver_version = driver_version
        self.error = error
        self.error_number = error_number


Reading = Generator[Wait, None, GpuReading]


class NvmlClient:
    def __init__(
        self,
        command: Callable[[], List[str]] = lambda: own_command("nvml"),
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._command = command
        self._clock = clock
        self._timeout_s = timeout_s
        self._helper: Optional[_Helper] = None
        self._hung: Optional[_Helper] = None
        self._quiet_until = 0.0

    def read(self) -> Reading:
        """Steps that end with a reading; never raises for a broken driver."""
        if self._still_hung():
            return GpuReading(error="NVML does not answer: the NVIDIA driver hangs")
        helper = self._helper = self._helper or _Helper(self._command())
        deadline = self._clock() + self._timeout_s
        helper.ask()
        while True:
            line = helper.answer()
            if line is not None:
                return _parse(line)
            if helper.ended:
                self.close()
                return GpuReading(error="the NVML helper ended without an answer")
            if self._clock() >= deadline:
                self._give_up()
                return GpuReading(
                    error="NVML did not answer within %g s: the NVIDIA driver hangs"
                    % self._timeout_s
                )
            yield Wait(deadline - self._clock(), helper.output)

    def close(self) -> None:
        """End the helper; the next reading starts another."""
        helper, self._helper = self._helper, None
        if helper is not None and not helper.close():
            self._hung = helper

    def _give_up(self) -> None:
        self._quiet_until = self._clock() + QUIET_AFTER_HANG_S
        self.close()

    def _still_hung(self) -> bool:
        """A process stuck in the driver cannot be killed; do not pile up more of them."""
        if self._hung is not None and self._hung.reap():
            self._hung = None
        return self._hung is not None or self._clock() < self._quiet_until


class _Helper:
    def __init__(self, command: List[str]) -> None:
        theirs_in, self._input = os.pipe()
        self.output, theirs_out = os.pipe()
        self._pid = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs_in, 0),
                (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
        os.close(theirs_in)
        os.close(theirs_out)
        os.set_blocking(self.output, False)
        self._buffer = b""
        self._asked = False
        self.ended = False

    def ask(self) -> None:
        """An answer that is still due, because its asker gave up, serves the next one."""
        if self._asked:
            return
        self._asked = True
        try:
            os.write(self._input, b"\n")
        except BrokenPipeError:
            self.ended = True

    def answer(self) -> Optional[bytes]:
        try:
            data = os.read(self.output, READ_SIZE)
        except BlockingIOError:
            return None
        self.ended = self.ended or not data
        self._buffer += data
        line, found, rest = self._buffer.partition(b"\n")
        if not found:
            return None
        self._buffer, self._asked = rest, False
        return line

    def close(self) -> bool:
        """False when it could not be reaped at once."""
        os.close(self._input)
        os.close(self.output)
        os.kill(self._pid, signal.SIGKILL)
        for _ in range(20):
            if self.reap():
                return True
            time.sleep(0.005)
        return False

    def reap(self) -> bool:
        return os.waitpid(self._pid, os.WNOHANG)[0] != 0


def _parse(line: bytes) -> GpuReading:
    try:
        told: Dict[str, Any] = json.loads(line)
    except ValueError:
        return GpuReading(error="the NVML helper gave a damaged answer")
    gpus = tuple(GpuSample.from_json(row) for row in told.get("gpus", ()))
    return GpuReading(
        gpus, told.get("driver_version"), told.get("gpu_error"), told.get("gpu_error_number")
    )


def run_now(reading: Reading) -> GpuReading:
    """Drive a reading to its end where nothing else waits, as in the dispatcher."""
    import select

    while True:
        try:
            wait = next(reading)
        except StopIteration as end:
            found: GpuReading = end.value
            return found
        fds = [] if wait.fd is None else [wait.fd]
        select.select(fds, [], [], wait.seconds)
