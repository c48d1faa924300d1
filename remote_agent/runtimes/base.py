"""What a runtime is: one way of running a job's program. A new one is one file plus one line
in :mod:`remote_agent.runtimes`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from remote_agent.faults import CouldNotStart
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity
from remote_agent.protocol.job import JobSpec
from remote_agent.tree import Tree

CONTAINER_PREFIX = "rigup-"


def container_name(job_id: str) -> str:
    return CONTAINER_PREFIX + job_id


@dataclass(frozen=True)
class Gpu:
    """A leased GPU: its NVML index, its UUID, and its PCI address where that is known."""

    index: int
    uuid: str
    pci: str = ""

    def to_word(self) -> str:
        """For the command line of a supervisor."""
        return "%d=%s=%s" % (self.index, self.uuid, self.pci)

    @classmethod
    def from_word(cls, word: str) -> Gpu:
        index, uuid, pci = word.split("=")
        return cls(int(index), uuid, pci)


@dataclass
class Job:
    """What a runtime works with. ``env`` is complete: the job's own variables and rigup's."""

    spec: JobSpec
    paths: JobPaths
    tree: Tree
    gpus: Tuple[Gpu, ...] = ()
    env: Dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Ending:
    """How a job's main process ended. With neither code nor signal it could not be learned;
    ``unknown`` says why, and ``hint`` what to try. With both, the code tells of the signal.
    ``outside``: who asked for it on the host, where that is known."""

    exit_code: Optional[int] = None
    signal: Optional[int] = None
    oom_killed: bool = False
    unknown: str = ""
    hint: str = ""
    outside: str = ""
    could_not_start: Optional[CouldNotStart] = None


class Runtime:
    """One running job, from start to clean-up. Called by one thread; nothing here may block
    for longer than a local program needs to answer.

    ``process``: the one to watch; a runtime may exchange it. ``patience_s``: how soon to poll
    again where no signal would tell that something changed.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: Optional[Identity] = None
        self.patience_s = math.inf

    def start(self) -> None:
        """Start the program; sets ``process``. Raises CouldNotStart."""
        raise NotImplementedError

    def recover(self, process: Identity) -> None:
        """Go on watching what an earlier supervisor started as ``process``, dead or alive."""
        raise NotImplementedError

    def poll(self, reaped: Dict[int, int]) -> Optional[Ending]:
        """None while it runs. ``reaped``: wait statuses of children that ended so far."""
        raise NotImplementedError

    def stop(self, grace_s: float) -> None:
        """Ask the program to end; returns at once. May be called twice."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the program by force."""
        raise NotImplementedError

    def host_goes_down(self) -> None:
        """The host shuts down or reboots: from now on, wait for nothing that goes down as well."""

    def clean_up(self) -> None:
        """Remove what the runtime left on the host, once the program has ended."""
