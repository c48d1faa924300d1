"""Leave the login session where the host would end its processes at logout.

With ``KillUserProcesses=yes`` (logind.conf(5)) systemd-logind kills everything in the session's
scope when the SSH session ends, whatever its session id or SIGHUP handling. A transient scope
outside of it survives: of the system's manager for root, of the user's own manager otherwise,
which itself survives only while the user lingers (loginctl(1)).
"""

from __future__ import annotations

import os
from typing import List, Optional, Sequence, Tuple

PROPERTY = (
    "busctl",
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "KillUserProcesses",
)
_prefix: Optional[List[str]] = None


def scope_prefix() -> Sequence[str]:
    """The words to put before a command line; none where plain detaching is enough or nothing
    better is possible. Asked once per process."""
    global _prefix
    if _prefix is None:
        _prefix = _choose() if _session_is_killed() else []
    return _prefix


def _choose() -> List[str]:
    words = ["systemd-run", "--scope", "--quiet", "--collect"]
    if os.geteuid() != 0:
        words.insert(1, "--user")
        if not _lingers() and _output("loginctl", "enable-linger")[0] != 0:
            return []
    return words if _output(*words, "true")[0] == 0 else []


def _session_is_killed() -> bool:
    if not os.path.isdir("/run/systemd/system") or not _in_session():
        return False
    code, output = _output(*PROPERTY)
    return code == 0 and output.split() == ["b", "true"]


def _in_session() -> bool:
    with open("/proc/self/cgroup") as file:
        return "/session-" in file.read()


def _lingers() -> bool:
    import pwd

    name = pwd.getpwuid(os.geteuid()).pw_name
    return os.path.exists(os.path.join("/var/lib/systemd/linger", name))


def _output(*words: str) -> Tuple[int, str]:
    import subprocess

    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")
