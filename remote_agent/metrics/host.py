"""The machine's own figures, from /proc (see proc(5)) and statvfs."""

from __future__ import annotations

import os
from typing import Dict, Optional, Tuple

from remote_agent.protocol.sample import HostSample

KIB = 1024
Ticks = Tuple[int, int]


class HostMeter:
    """``disk_path``: the file system whose space is reported. ``proc`` is replaced in tests."""

    def __init__(self, disk_path: str, proc: str = "/proc") -> None:
        self._disk_path = disk_path
        self._proc = proc
        self._before: Optional[Ticks] = None

    @property
    def primed(self) -> bool:
        """Processor use is known from the second reading on."""
        return self._before is not None

    def prime(self) -> None:
        self._before = self._ticks()

    def read(self) -> HostSample:
        memory = self._memory()
        total, available = memory.get("MemTotal"), memory.get("MemAvailable")
        used = total - available if total is not None and available is not None else None
        disk_used, disk_total = self._disk()
        return HostSample(
            cpu=self._cpu(),
            cores=os.cpu_count(),
            load1=self._first_number("loadavg"),
            memory_used=used,
            memory_total=total,
            disk_used=disk_used,
            disk_total=disk_total,
            uptime_s=self._first_number("uptime"),
        )

    def _cpu(self) -> Optional[float]:
        before, now = self._before, self._ticks()
        self._before = now
        if before is None or now is None or now[1] <= before[1]:
            return None
        busy = (now[0] - before[0]) / (now[1] - before[1])
        return round(100.0 * min(1.0, max(0.0, busy)), 1)

    def _ticks(self) -> Optional[Ticks]:
        """Busy and all processor ticks; waiting for disks counts as idle, guests are already
        part of user time."""
        text = self._text("stat")
        numbers = [int(word) for word in text.partition("\n")[0].split()[1:9]]
        if len(numbers) < 5:
            return None
        total = sum(numbers)
        return total - numbers[3] - numbers[4], total

    def _memory(self) -> Dict[str, int]:
        found = {}
        for line in self._text("meminfo").splitlines():
            words = line.replace(":", " ").split()
            if len(words) >= 2 and words[0] in ("MemTotal", "MemAvailable"):
                found[words[0]] = int(words[1]) * KIB
        return found

    def _disk(self) -> Tuple[Optional[int], Optional[int]]:
        try:
            status = os.statvfs(self._disk_path)
        except OSError:
            return None, None
        block = status.f_frsize
        return (status.f_blocks - status.f_bfree) * block, status.f_blocks * block

    def _first_number(self, name: str) -> Optional[float]:
        words = self._text(name).split()
        return float(words[0]) if words else None

    def _text(self, name: str) -> str:
        try:
            with open(os.path.join(self._proc, name)) as file:
                return file.read()
        except OSError:
            return ""
