"""Start the agent again as a process that outlives this connection (what ``nohup`` promises,
and more): own session, SIGHUP ignored, no terminal, no inherited pipes, cwd ``/``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Dict, List, NoReturn, Sequence, Tuple

from remote_agent.own_file import own_path
from remote_agent.processes import JOB_MARK

SESSION_VARIABLES = (
    JOB_MARK,
    "SSH_AUTH_SOCK",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_ORIGINAL_COMMAND",
    "SSH_TTY",
    "XDG_SESSION_ID",
)
"""Belong to the connection or to an enclosing job, and would be wrong in a detached process."""


def own_command(*words: str) -> List[str]:
    """The command line that runs this very agent file with other arguments."""
    return [sys.executable, "-I", own_path(), *words]


def lasting_environment() -> Dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in SESSION_VARIABLES}


def spawn_detached(
    argv: Sequence[str],
    *,
    errors: str = os.devnull,
    keep: Tuple[int, ...] = (),
    prefix: Sequence[str] = (),
) -> None:
    """Start ``argv`` and forget it. ``errors``: file for its stderr; ``keep``: descriptors it
    inherits under the same numbers; ``prefix``: a program that moves it out of the login
    session (see :mod:`remote_agent.scope`)."""
    env = lasting_environment()
    pid = os.fork()
    if pid == 0:
        _double_fork([*prefix, *argv], env, errors, keep)
    os.waitpid(pid, 0)


def _double_fork(
    argv: Sequence[str], env: Dict[str, str], errors: str, keep: Tuple[int, ...]
) -> NoReturn:
    """The middle process leads the new session and ends, so the last one can never get a
    controlling terminal and belongs to init."""
    try:
        os.setsid()
        if os.fork() == 0:
            _become(argv, env, errors, keep)
    finally:
        os._exit(0)


def _become(
    argv: Sequence[str], env: Dict[str, str], errors: str, keep: Tuple[int, ...]
) -> NoReturn:
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        complaints = os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for source, target in ((nothing, 0), (nothing, 1), (complaints, 2)):
            os.dup2(source, target)
        for fd in keep:
            os.set_inheritable(fd, True)
        os.execvpe(argv[0], list(argv), env)  # noqa: S606
    finally:
        os._exit(127)
