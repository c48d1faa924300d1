"""A job: what was asked (JobSpec), what became of it (JobRecord), and why (Verdict).

::

    queued ──> starting ──> running ──> succeeded
      │           │            ├──────> failed
      │           │            ├──────> stopped
      │           │            └──────> lost        the host went down, or the supervisor died
      │           ├──> failed | stopped | lost
      └──> stopped

``damaged`` is no state on disk: it is what a job is shown as whose files make no sense.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Optional, Tuple

from remote_agent.protocol.values import ProtocolError, Value, check_count, check_time

QUEUED = "queued"
STARTING = "starting"
RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"
STOPPED = "stopped"
LOST = "lost"
DAMAGED = "damaged"
"""Its state or specification cannot be read. Something of it may still run: ``stop`` ends that and
writes a readable state."""

TRANSITIONS: Dict[str, FrozenSet[str]] = {
    QUEUED: frozenset({STARTING, STOPPED, FAILED}),
    STARTING: frozenset({RUNNING, FAILED, STOPPED, LOST}),
    RUNNING: frozenset({SUCCEEDED, FAILED, STOPPED, LOST}),
    SUCCEEDED: frozenset(),
    FAILED: frozenset(),
    STOPPED: frozenset(),
    LOST: frozenset(),
}
FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)

PROCESS = "process"
CONTAINER = "container"

JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,62}\Z")
"""Client-generated, also a directory name and a container name on the host."""
MADE_BY_RIGUP = re.compile(r"(?:(?:index\.|registry-1\.)?docker\.io/)?rigup/")


def is_made_by_rigup(reference: str) -> bool:
    """Such an image is built or sent and is in no registry. Whoever owns that name in a public one
    may put there what he likes."""
    return MADE_BY_RIGUP.match(reference) is not None


@dataclass(frozen=True)
class ImagePlan(Value):
    """How a host gets the image of a job, which it did not have when the job was sent.

    First ``base`` ("": the job's image itself): pulled as ``pull``, or it arrives from
    ``sender`` (such as ``ann@laptop``) where ``pull`` is None. Then, where ``build`` is given, the
    job's image is built on it: ``build`` is the digest of a blob, a build context for
    ``docker build -``, and ``build_args`` its arguments, which may hold a proxy's password.
    ``size``: bytes that all of it takes on the host's disk, about; 0 where nobody knows.
    """

    base: str = ""
    pull: Optional[str] = None
    sender: str = ""
    build: Optional[str] = None
    build_args: Dict[str, str] = field(default_factory=dict, repr=False)
    size: int = 0


@dataclass(frozen=True)
class JobSpec(Value):
    """What to run. Sent by the client; never changes afterwards.

    argv: program and arguments, run in ``directory`` (relative, "" for the top) of the job's own
        copy of ``snapshot`` (None: an empty directory). gpus: how many GPUs to lease, 0 for none.
    gpu_indices: exactly these, by NVML index; () for any that are free.
    image: the container runtime's image. image_plan: how the host gets it; None where it has it.
    revision: the Git commit of the code, "" outside Git.
    env: added to the job's environment; it is stored on the host in a 0600 file.
    created_at: seconds since the epoch, by the client's clock.
    """

    job_id: str
    name: str
    argv: Tuple[str, ...]
    runtime: str = PROCESS
    snapshot: Optional[str] = None
    directory: str = ""
    env: Dict[str, str] = field(default_factory=dict, repr=False)
    gpus: int = 0
    image: Optional[str] = None
    mounts: Tuple[str, ...] = ()
    shm_size: Optional[str] = None
    created_at: float = 0.0
    created_by: str = ""
    gpu_indices: Tuple[int, ...] = ()
    image_plan: Optional[ImagePlan] = None
    revision: str = ""


@dataclass(frozen=True)
class Verdict(Value):
    """Why a job ended. ``cause`` is one of CAUSES; ``evidence`` is what was seen; ``hint`` is
    the next thing to try."""

    cause: str
    exit_code: Optional[int] = None
    signal: Optional[str] = None
    evidence: str = ""
    hint: str = ""


CAUSES = (
    "success",
    "exit-code",
    "signal",
    "could-not-start",
    "stopped-by-user",
    "cuda-out-of-memory",
    "host-out-of-memory",
    "container-out-of-memory",
    "disk-full",
    "xid",
    "reboot",
    "lost",
    "damaged",
)


@dataclass(frozen=True)
class JobRecord(Value):
    """A job as the host's disk tells it. Times are seconds since the epoch, by the host's clock.

    gpu_ids: the leased GPUs' NVML indices. log_bytes: length of the log so far. waiting_for: why
    a queued job has not started yet, for people; "" before anybody looked. sequence: its place in
    the queue, which no clock changes; 0 for jobs of agents that did not count.
    """

    spec: JobSpec
    state: str
    created_at: float
    started_at: Optional[float] = None
    ended_at: Optional[float] = None
    boot_id: str = ""
    pid: Optional[int] = None
    gpu_ids: Tuple[int, ...] = ()
    log_bytes: int = 0
    verdict: Optional[Verdict] = None
    waiting_for: str = ""
    sequence: int = 0

    def check(self) -> None:
        if not JOB_ID.match(self.spec.job_id):
            raise ProtocolError("%r is not a job id" % self.spec.job_id[:80])
        if self.state not in TRANSITIONS and self.state != DAMAGED:
            raise ProtocolError("%r is not a state of a job" % self.state[:80])
        for name in ("created_at", "started_at", "ended_at"):
            check_time(getattr(self, name), name)
        check_count(self.log_bytes, "log_bytes")
        check_count(self.sequence, "sequence")

    @property
    def job_id(self) -> str:
        return self.spec.job_id

    @property
    def order(self) -> Tuple[int, float, str]:
        """Sorts jobs by when they were queued."""
        return self.sequence, self.created_at, self.job_id

    @property
    def is_final(self) -> bool:
        return self.state in FINAL
