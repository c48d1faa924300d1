"""The machine that figures were measured on, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def described() -> str:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ssh = subprocess.run(["ssh", "-V"], stderr=subprocess.PIPE, text=True).stderr.split(",")[0]
    return (
        f"{os.cpu_count()} cores ({_processor()}), {gib:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {ssh}, load {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
