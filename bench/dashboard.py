"""Measures the dashboard: `python -m bench.dashboard`, in a checkout, on Linux.

Start to ready and quitting are measured in a real pseudo-terminal; the log is measured headless
at 160x50, painting included. The hosts are in memory: no network is measured.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import tui
from tests.tui.fakes import FakeAgent, gpu, host, job, sample

ROOT = Path(__file__).resolve().parent.parent
HOSTS, GPUS = 8, 4
IDLE_S = 15.0
READY = b"8 of 8 hosts"
PIECE = 256 * 1024


def main() -> int:
    if sys.argv[1:] == ["--serve"]:
        return serve()
    terminal = Terminal()
    ready = terminal.wait_for(READY)
    print(f"start to ready, {HOSTS} hosts     {ready:6.2f} s")
    terminal.drain(3.0)
    print(f"CPU, idle, {HOSTS} hosts at 1 Hz  {terminal.cpu_share(IDLE_S):6.1%} of one core")
    print(f"quit, terminal restored    {terminal.quit():6.2f} s")
    for name, line in (("plain", PLAIN), ("coloured", COLOURED), ("progress bar", BAR)):
        rate, worst = asyncio.run(log_rate(line))
        print(f"log, {name:<12} {rate:12,.0f} lines/s   longest pause {worst * 1000:4.0f} ms")
    return 0


PLAIN = b"{'loss': 1.2345, 'grad_norm': 0.321, 'learning_rate': 2e-05, 'epoch': 0.12}\n"
COLOURED = b"\x1b[32mINFO\x1b[0m \x1b[1;34mtrainer\x1b[0m step 1200 loss 1.2345 lr 2e-05\n"
BAR = b"\r 42%|########            | 840/2000 [03:30<04:50, 4.00it/s, loss=1.234]"


async def log_rate(line: bytes, seconds: float = 4.0) -> tuple[float, float]:
    """Lines (or bar updates) per second through the log panel, and the longest pause."""
    from tui.app import DashboardApp
    from tui.log_follower import JobKey, LogArrived

    app = DashboardApp([], lambda asked: FakeAgent().connect(asked))
    key, record = JobKey("a", "job-one"), job()
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        app.board.log_panel.open(key, record)
        lines = offset = 0
        worst, began = 0.0, time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            data = line * (PIECE // len(line))
            app.board.take_log([LogArrived(key, offset, data, offset + len(data), record)])
            await pilot.pause(0)
            offset, lines = offset + len(data), lines + PIECE // len(line)
            worst = max(worst, time.perf_counter() - now)
        rate = lines / (time.perf_counter() - began)
    app.close()
    return rate, worst


def serve() -> int:
    """A dashboard over hosts in memory that send a sample a second each."""
    agents = {f"gpu{number:02}": FakeAgent(job(f"job-{number}")) for number in range(HOSTS)}
    threading.Thread(target=_send_samples, args=(agents,), daemon=True).start()
    return tui.run([host(name) for name in agents], lambda asked: agents[asked.name].connect(asked))


def _send_samples(agents: dict[str, FakeAgent]) -> None:
    for second in _seconds():
        for number, agent in enumerate(agents.values()):
            gpus = [
                gpu(index, utilization=(second + index + number) % 100) for index in range(GPUS)
            ]
            if agent.clients:
                agent.push(sample(*gpus, taken_at=time.time()))
            time.sleep(1 / len(agents))


def _seconds() -> Iterator[int]:
    second = 0
    while True:
        yield second
        second += 1


class Terminal:
    """This script with ``--serve``, in a pseudo-terminal."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._pid, self._screen = pty.fork()
        if self._pid == 0:
            os.chdir(ROOT)
            os.environ["TERM"] = "xterm-256color"
            os.execv(sys.executable, [sys.executable, "-m", "bench.dashboard", "--serve"])  # noqa: S606
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))

    def wait_for(self, words: bytes) -> float:
        """Seconds from the start until ``words`` were written."""
        seen = b""
        while words not in seen:
            seen = seen[-1000:] + self._read(10.0)
        return time.perf_counter() - self._began

    def drain(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def cpu_share(self, seconds: float) -> float:
        before, began = self._cpu_s(), time.perf_counter()
        self.drain(seconds)
        return (self._cpu_s() - before) / (time.perf_counter() - began)

    def quit(self) -> float:
        began = time.perf_counter()
        os.write(self._screen, b"q")
        seen = b""
        while b"\x1b[?1049l" not in seen:
            seen = seen[-1000:] + self._read(10.0)
        took = time.perf_counter() - began
        os.waitpid(self._pid, 0)
        return took

    def _read(self, timeout_s: float) -> bytes:
        if not select.select([self._screen], [], [], timeout_s)[0]:
            return b""
        try:
            return os.read(self._screen, 65_536)
        except OSError as error:
            raise SystemExit("the dashboard ended early; run it with --serve to see why") from error

    def _cpu_s(self) -> float:
        """User and system time, fields 14 and 15 of proc(5)'s stat."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
