"""Is the host going down right now? Then a job's end is the host's doing, not the job's."""

from __future__ import annotations

import os
import subprocess

ANSWER_S = 3.0
NO_LOGIN = "/run/nologin"
"""systemd-user-sessions(8) makes it when the host goes down; see also pam_nologin(8)."""


def is_shutting_down() -> bool:
    """False where there is no systemd to ask."""
    if os.path.exists(NO_LOGIN):
        return True
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"stopping"
