"""Jobs that run as plain processes of the login user."""

from __future__ import annotations

import errno
import os
import signal
from typing import Dict, Optional

from remote_agent.faults import CouldNotStart
from remote_agent.launch import LaunchError, launch
from remote_agent.processes import Identity, identity_of, is_alive
from remote_agent.runtimes.base import Ending, Job, Runtime
from remote_agent.workspace import working_directory

ENDED_UNSEEN = (
    "its supervisor was killed and its program has ended; nobody saw when and how, so its exit "
    "code is not known"
)


class ProcessRuntime(Runtime):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._recovered = False
        self._unseen = ""

    def start(self) -> None:
        job = self.job
        try:
            where = working_directory(job.spec, job.paths)
            cgroup = job.tree.cgroup
            pid = launch(job.spec.argv, where, job.env, job.paths.log, cgroup)
            self.process = identity_of(pid)
        except LaunchError as error:
            raise _explain(error, job) from None

    def recover(self, process: Identity) -> None:
        self.process, self._recovered = process, True
        if not is_alive(process):
            self._unseen = ENDED_UNSEEN

    def poll(self, reaped: Dict[int, int]) -> Optional[Ending]:
        if self.process is None:
            return None
        if self._recovered:
            return None if is_alive(self.process) else Ending(unknown=self._unseen)
        status = reaped.get(self.process.pid)
        return None if status is None else ending_of(status)

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
    if error.errno == errno.ENOENT or not _is_there(program, job.env.get("PATH", "")):
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


def _is_there(program: str, path: str) -> bool:
    """A directory of PATH that this user may not enter makes the kernel say "permission denied"
    for a program that is nowhere."""
    if "/" in program:
        return True
    return any(os.path.exists(os.path.join(where, program)) for where in path.split(":"))
