"""Jobs that run as plain processes of the login user."""

from __future__ import annotations

import errno
import os
import signal
from typing import Dict, Optional

from remote_agent.faults import CouldNotStart
from remote_agent.launch import LaunchError, launch
from remote_agent.processes import Identity, identify, is_alive
from remote_agent.runtimes.base import Ending, Job, Runtime
from remote_agent.workspace import working_directory


class ProcessRuntime(Runtime):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._pid = 0
        self._recovered: Optional[Identity] = None

    def start(self) -> int:
        job = self.job
        try:
            where = working_directory(job.spec, job.paths)
            self._pid = launch(job.spec.argv, where, job.env, job.paths.log)
        except LaunchError as error:
            raise _explain(error, job) from None
        return self._pid

    def recover(self, pid: int) -> None:
        self._pid = pid
        self._recovered = identify(pid)

    def poll(self, reaped: Dict[int, int]) -> Optional[Ending]:
        if self._pid in reaped:
            return ending_of(reaped[self._pid])
        adopted = self._recovered
        return Ending() if adopted is not None and not is_alive(adopted) else None

    def stop(self, grace_s: float) -> None:
        self.job.tree.send(signal.SIGTERM)

    def kill(self) -> None:
        self.job.tree.send(signal.SIGKILL)


def ending_of(status: int) -> Ending:
    """An :func:`os.waitpid` status as an Ending."""
    if os.WIFSIGNALED(status):
        return Ending(signal=os.WTERMSIG(status))
    return Ending(exit_code=os.WEXITSTATUS(status))


def _explain(error: LaunchError, job: Job) -> CouldNotStart:
    program = job.spec.argv[0]
    if error.step == "chdir":
        return CouldNotStart("cannot enter the working directory: %s" % error, "see the host's log")
    if error.errno == errno.ENOENT:
        return CouldNotStart(
            "program not found: %s" % program,
            "check the name, the interpreter in its first line, and PATH=%s"
            % job.env.get("PATH", ""),
        )
    if error.errno == errno.EACCES:
        return CouldNotStart(
            "not executable: %s" % program, "chmod +x it, or name its interpreter first"
        )
    return CouldNotStart("%s: %s" % (program, error), "run the command by hand on the host")
