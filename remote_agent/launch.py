"""Start a program as a child: own session, output appended to a file, errors reported."""

from __future__ import annotations

import os
import signal
from typing import Dict, NoReturn, Optional, Sequence

from remote_agent.cgroup import Cgroup
from remote_agent.faults import complain

DEFAULTED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGXFSZ,
)


class LaunchError(OSError):
    """``step`` is ``chdir`` or ``exec``."""

    def __init__(self, number: int, step: str) -> None:
        super().__init__(number, os.strerror(number))
        self.step = step


def launch(
    argv: Sequence[str],
    cwd: str,
    env: Dict[str, str],
    output: str,
    cgroup: Optional[Cgroup] = None,
) -> int:
    """The new process's id. Its stdin is empty; both outputs are appended to ``output``. It starts
    in ``cgroup``, or without where that cannot be entered.

    Raises LaunchError when the program could not be executed.
    """
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    report_end, write_end = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _enter(cgroup)
            _become(argv, cwd, env, log, write_end)
    finally:
        os.close(write_end)
        os.close(log)
    report = _read_report(report_end)
    if report is not None:
        os.waitpid(pid, 0)
        raise report
    return pid


def _enter(cgroup: Optional[Cgroup]) -> None:
    try:
        if cgroup is not None:
            cgroup.enter()
    except OSError as error:
        complain("the program runs outside of its cgroup: %s" % error)


def _become(argv: Sequence[str], cwd: str, env: Dict[str, str], log: int, report: int) -> NoReturn:
    step = "chdir"
    try:
        os.setsid()
        _reset_signals()
        empty = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((empty, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(cwd)
        step = "exec"
        os.execvpe(argv[0], list(argv), env)  # noqa: S606  no shell is the point
    except OSError as error:
        os.write(report, b"%d %s" % (error.errno or 0, step.encode()))
    finally:
        os._exit(127)


def _reset_signals() -> None:
    """Ignored signals and the mask would be inherited by the program."""
    for number in DEFAULTED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _read_report(fd: int) -> Optional[LaunchError]:
    with os.fdopen(fd, "rb") as file:
        words = file.read().split()
    return LaunchError(int(words[0]), words[1].decode()) if words else None
