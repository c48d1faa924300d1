"""Whether root has asked that no job starts, because the host is about to reboot."""

from __future__ import annotations

import os
import stat
import time

PATH = "/run/rigup/reboot-hold"
"""Written by provisioning (provisioner/reboot.py). /run is empty after a boot."""
LASTS_S = 600.0
"""A hold that is older counts no more: whoever set it was cut off."""
WAITING = "the host is about to reboot"


def reboot_is_due(path: str = PATH, now: float = 0.0) -> bool:
    """``now``: seconds since the epoch; 0 for the present."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    age_s = (now or time.time()) - status.st_mtime
    fresh = -LASTS_S < age_s < LASTS_S  # a clock may have been set back meanwhile
    return stat.S_ISREG(status.st_mode) and status.st_uid == 0 and fresh
