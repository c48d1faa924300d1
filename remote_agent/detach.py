"""Start the agent again as a process that outlives this connection (what ``nohup`` promises,
and more): own session, SIGHUP ignored, no terminal, no inherited pipes, cwd ``/``."""

from __future__ import annotations

import os
import select
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
SCOPE_LIMIT_S = 15.0
"""How long systemd may take to make a scope; normally it needs 20 ms."""
ENTERED = 'echo && exec "$@" >/dev/null'
"""Run by sh in the scope: says that it is there, and becomes the program."""


def own_command(*words: str) -> List[str]:
    """The command line that runs this very agent file with other arguments."""
    return [sys.executable, "-I", own_path(), *words]


def lasting_environment() -> Dict[str, str]:
    env = {key: value for key, value in os.environ.items() if key not in SESSION_VARIABLES}
    runtime = "/run/user/%d" % os.geteuid()
    if "XDG_RUNTIME_DIR" not in env and os.path.isdir(runtime):
        env["XDG_RUNTIME_DIR"] = runtime  # where systemd-run finds the user's manager
    return env


def spawn_detached(
    argv: Sequence[str],
    *,
    errors: str = os.devnull,
    keep: Tuple[int, ...] = (),
    scope: Sequence[str] = (),
) -> None:
    """Start ``argv`` and forget it. ``errors``: file for its stderr; ``keep``: descriptors it
    inherits under the same numbers; ``scope``: the words of :mod:`remote_agent.scope` that start
    it in a scope of its own. Where those fail, it starts without."""
    env = lasting_environment()
    pid = os.fork()
    if pid == 0:
        _double_fork(argv, env, errors, keep, scope)
    os.waitpid(pid, 0)


def _double_fork(
    argv: Sequence[str],
    env: Dict[str, str],
    errors: str,
    keep: Tuple[int, ...],
    scope: Sequence[str],
) -> NoReturn:
    """The middle process leads the new session and ends, so the last one can never get a
    controlling terminal and belongs to init."""
    try:
        os.setsid()
        if os.fork() == 0:
            _detach(errors, keep)
            if not (scope and _starts_in_scope(scope, argv, env)):
                os.execvpe(argv[0], list(argv), env)  # noqa: S606
    finally:
        os._exit(0)


def _detach(errors: str, keep: Tuple[int, ...]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    complaints = _open_errors(errors)
    for source, target in ((nothing, 0), (nothing, 1), (complaints, 2)):
        os.dup2(source, target)
    for fd in keep:
        os.set_inheritable(fd, True)


def _starts_in_scope(scope: Sequence[str], argv: Sequence[str], env: Dict[str, str]) -> bool:
    """True once the scope's first process has said that it is there. It may say so just after
    the limit, and then there are two: the second finds nothing to do (supervisors claim their
    job, the dispatcher its lock)."""
    report, entered = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(entered, 1)
            os.execvpe(scope[0], [*scope, "sh", "-c", ENTERED, "sh", *argv], env)  # noqa: S606
        finally:
            os._exit(127)
    os.close(entered)
    ready, _, _ = select.select([report], [], [], SCOPE_LIMIT_S)
    if ready and os.read(report, 1):
        return True
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def _open_errors(path: str) -> int:
    """Nowhere, where the disk has no room for the file: the process matters more."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
