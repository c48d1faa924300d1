"""Start a process in a systemd scope of its own (systemd.scope(5)), outside of the login session.

Two reasons. With ``KillUserProcesses=yes`` (logind.conf(5)) systemd-logind kills everything in the
session's scope when the SSH session ends, whatever its session id or SIGHUP handling. And a
supervisor's scope is delegated, so that the job gets a cgroup of its own
(:mod:`remote_agent.cgroup`) that none of its processes leaves by accident.

The scope belongs to the system's manager for root and to the user's own manager otherwise, which
itself survives the last logout only while the user lingers (loginctl(1)): without that it is not
used. ``systemd-run`` needs no message bus for this, the manager has a socket of its own.
"""

from __future__ import annotations

import os
from typing import List, Optional, Tuple

from remote_agent.cgroup import scope_name

KILLS_PROCESSES = (
    "busctl",
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "KillUserProcesses",
)
_killed: Optional[bool] = None


def job_scope(job_id: str) -> List[str]:
    """The words to put before a supervisor's command line; none where there is no manager that
    outlives the login. Delegated: then an OOM kill inside does not end the whole scope."""
    words = _scope()
    if not words:
        return []
    words += ["--description=rigup job " + job_id]
    words += ["--property=Delegate=yes", "--property=TasksMax=infinity"]
    return [*words, "--unit=" + scope_name(job_id)]


def session_escape() -> List[str]:
    """The words for other detached processes; none where plain detaching is enough."""
    return _scope() if _session_is_killed() else []


def _scope() -> List[str]:
    words = ["systemd-run", "--scope", "--quiet", "--collect"]
    if not os.path.isdir("/run/systemd/system"):
        return []
    if os.geteuid() == 0:
        return words
    words.insert(1, "--user")
    return words if _lingers() or (_session_is_killed() and _enable_linger()) else []


def _session_is_killed() -> bool:
    """Asked once per process."""
    global _killed
    if _killed is None:
        _killed = _asks_for_kill()
    return _killed


def _asks_for_kill() -> bool:
    if not os.path.isdir("/run/systemd/system") or not _in_session():
        return False
    code, output = _output(*KILLS_PROCESSES)
    return code == 0 and output.split() == ["b", "true"]


def _in_session() -> bool:
    with open("/proc/self/cgroup") as file:
        return "/session-" in file.read()


def _lingers() -> bool:
    import pwd

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return os.path.exists(os.path.join("/var/lib/systemd/linger", name))


def _enable_linger() -> bool:
    return _output("loginctl", "enable-linger")[0] == 0


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
