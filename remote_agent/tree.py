"""All processes of one job, also those that daemonized away, and how to end them.

With a cgroup of the job's own none is missed, whoever died before. Without one they are told by
what they inherit: parent, session and group, the mark in their environment, the log as their
output. A process that has shed all of these is found only as a descendant of a living supervisor
(orphans become its children), or because a supervisor that died meanwhile has seen it.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Dict, Iterable, List, Optional, Set

from remote_agent.cgroup import Cgroup, recorded_cgroup
from remote_agent.files import read_json, write_json
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity, identify, identity_of, members, name_of, stat
from remote_agent.protocol.values import ProtocolError

MAX_SEEN = 1000
MAX_LOOKS = 50


class Tree:
    """``roots``: processes whose descendants, sessions and groups belong to the job."""

    def __init__(
        self,
        job_id: str,
        paths: Optional[JobPaths] = None,
        cgroup: Optional[Cgroup] = None,
        roots: Iterable[Identity] = (),
    ) -> None:
        self.job_id = job_id
        self.cgroup = cgroup
        self._log = os.path.realpath(paths.log) if paths else ""
        self._roots: Set[Identity] = set(roots)

    @classmethod
    def recorded(cls, job_id: str, paths: JobPaths, details: Dict[str, Any]) -> Tree:
        """As the job's files tell it, for a process that is not its supervisor."""
        told = details.get("process")
        roots = [Identity.from_json(told)] if told is not None else []
        return cls(job_id, paths, recorded_cgroup(details, job_id), roots + _seen(paths))

    def add_root(self, process: Identity) -> None:
        self._roots.add(process)

    def add_self(self) -> None:
        """The calling process is the job's supervisor: its descendants belong to the job."""
        self._roots.add(identity_of(os.getpid()))

    def pids(self) -> List[int]:
        own = os.getpid()
        found = set(members(self.job_id, self._roots, {own}, self._log))
        if self.cgroup is not None:
            found.update(_living(self.cgroup) - {own})
        return sorted(found)

    def send(self, number: int) -> int:
        """Signal every process of the job; returns how many there were."""
        pids = self.pids()
        if number == signal.SIGKILL and self.cgroup is not None:
            self.cgroup.kill()
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue  # gone meanwhile, or of another user (sudo): theirs to end
        return len(pids)

    def described(self) -> List[str]:
        """Its living processes for people, such as ``sleep (pid 12)``."""
        return ["%s (pid %d)" % (name_of(pid), pid) for pid in self.pids()]

    def remember(self, paths: JobPaths, pids: Iterable[int]) -> None:
        """Leave ``pids`` for a later :meth:`recorded`. Raises OSError."""
        found = filter(None, map(identify, sorted(pids)[:MAX_SEEN]))
        write_json(paths.seen, {"processes": [seen.to_json() for seen in found]})


def _living(cgroup: Cgroup) -> Set[int]:
    """Without zombies, but never empty while something forks and ends between two looks: only
    the same zombies twice are zombies."""
    listed: Set[int] = set()
    for _ in range(MAX_LOOKS):
        before, listed = listed, set(cgroup.pids())
        living = set(filter(_lives, listed))
        if living or listed == before:
            return living
    return listed


def _lives(pid: int) -> bool:
    found = stat(pid)
    return found is not None and found.state not in "ZX"


def _seen(paths: JobPaths) -> List[Identity]:
    """Nothing where the file is absent or damaged."""
    try:
        rows = read_json(paths.seen)["processes"]
        return [Identity.from_json(row) for row in rows[:MAX_SEEN]]
    except (OSError, ValueError, KeyError, TypeError, ProtocolError):
        return []
