"""Starts queued jobs: first come, first served, when the GPUs they asked for are really free.

One per user, held by a lock; it ends when nothing is queued, and any contact with the agent
starts it again.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

from remote_agent.disk import Complaints, write_problem
from remote_agent.faults import AgentFault
from remote_agent.image_queue import ImageQueue
from remote_agent.layout import Layout
from remote_agent.leases import Leases
from remote_agent.metrics.nvml_client import GpuReading, NvmlClient, run_now
from remote_agent.own_file import OwnFile, own_path
from remote_agent.own_gpus import OwnGpus
from remote_agent.protocol.job import FAILED, QUEUED, JobRecord
from remote_agent.protocol.sample import GpuSample
from remote_agent.reboot_hold import WAITING, reboot_is_due
from remote_agent.runtimes.base import Gpu
from remote_agent.standby import Standby, prepare_standby
from remote_agent.starter import start_supervisor
from remote_agent.store import JobStore
from remote_agent.verdict import could_not_start
from remote_agent.waiting import Obstacle, candidates, is_idle, obstacle, waiting_for
from remote_agent.wakeup import Wakeup

LOOK_S = 1.0
"""Between looks at the leases of jobs that do not wake us: other users', killed supervisors'."""
ROUND_S = 15.0
"""Between rounds that nothing has called for."""
FIRST_BUSY_S, BUSY_ROUND_S = 0.25, 5.0
"""First and longest pause after GPUs were found busy with foreign processes: asking NVML is not
free."""
CLAIM_LIMIT_S = 30.0
CLAIM_POLL_S = 0.25
MAX_ATTEMPTS = 3
TROUBLE_ROUND_S = 30.0
"""Pause after NVML gave no usable answer."""


def dispatch(layout: Layout) -> None:
    """Serve the queue until it is empty. Returns at once when another dispatcher does."""
    store = JobStore(layout)
    while _queued(store):
        fd = os.open(layout.dispatcher_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        wakeup = None
        try:
            if not _lock(fd):
                return
            wakeup = Wakeup(layout)
            Dispatcher(
                store,
                Leases.of_host(),
                wait=wakeup.wait,
                prepare=prepare_standby,
                own_gpus=OwnGpus(store).jobs,
            ).run()
        finally:
            if wakeup is not None:
                wakeup.close()
            os.close(fd)
        # A job queued after the last look, whose submitter saw the lock held, is found by
        # looking once more now that the lock is free.


@dataclass(frozen=True)
class _Trouble:
    """``of``: the job that the host keeps waiting, and the kind of obstacle. ``since``: seconds of
    the dispatcher's clock."""

    of: Tuple[str, str]
    since: float


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


class Dispatcher:
    """``read_gpus`` and ``start`` are replaced in tests. ``wait`` sleeps for so many seconds, or
    until somebody says that the queue or the GPUs changed, which it then tells by True.
    ``prepare`` starts a supervisor for the job that is next, ahead of its turn. ``on_hold`` tells
    that nothing may start, ``own_gpus`` which GPUs this user's running jobs have, and which job.
    ``images`` has the images of queued jobs prepared."""

    def __init__(
        self,
        store: JobStore,
        leases: Leases,
        read_gpus: Optional[Callable[[], GpuReading]] = None,
        start: Callable[..., None] = start_supervisor,
        wait: Callable[[float], bool] = _sleep,
        clock: Callable[[], float] = time.monotonic,
        prepare: Optional[Callable[[Layout, str], Standby]] = None,
        on_hold: Callable[[], bool] = reboot_is_due,
        own_gpus: Callable[[], Dict[str, str]] = dict,
        images: Optional[ImageQueue] = None,
    ) -> None:
        self._store = store
        self._images = images or ImageQueue(store, clock=clock)
        self._own_gpus = own_gpus
        self._on_hold = on_hold
        self._prepare = prepare
        self._standby: Optional[Standby] = None
        self._leases = leases
        self._nvml = NvmlClient()
        self._read_gpus = read_gpus or (lambda: run_now(self._nvml.read()))
        self._start = start
        self._wait = wait
        self._clock = clock
        self._attempts: Dict[str, int] = {}
        self._known: Tuple[GpuSample, ...] = ()
        self._next_reading = 0.0
        self._trouble: Optional[_Trouble] = None
        self._woken = False
        self._busy_pause_s = FIRST_BUSY_S
        self._complaints = Complaints()

    def run(self) -> None:
        try:
            own_file = OwnFile(own_path())
            while self._safe_round():
                own_file.keep()
                self._until_something_changes()
        finally:
            self._dismiss_standby()
            self._nvml.close()

    def _safe_round(self) -> bool:
        """A full disk ends no queue: the round is tried again."""
        try:
            return self.round()
        except OSError as error:
            self._complaints.say("cannot serve the queue yet: %s" % error)
            self._next_reading = self._clock() + TROUBLE_ROUND_S
            return True

    def _until_something_changes(self) -> None:
        """Returns when somebody woke us, a lease came or went, or it is time to look anyway."""
        before, deadline = self._held(), self._clock() + self._pause_s()
        while not self._woken and self._held() == before:
            left_s = deadline - self._clock()
            if left_s <= 0:
                return
            self._woken = self._wait(min(LOOK_S, left_s))
        self._look_soon()

    def _look_soon(self) -> None:
        """GPUs that were busy may be free now. A program that has just ended may show on its GPU
        for a moment longer, so the next looks come soon, then ever less often."""
        if self._trouble is None:
            self._next_reading, self._busy_pause_s = 0.0, FIRST_BUSY_S
        self._woken = False

    def _pause_s(self) -> float:
        until_reading = self._next_reading - self._clock()
        return min(ROUND_S, until_reading) if until_reading > 0 else ROUND_S

    def _held(self) -> Tuple[bool, ...]:
        return tuple(self._leases.is_held(gpu.uuid) for gpu in self._known)

    def round(self) -> bool:
        """Start what can be started now; False when nothing is queued any more."""
        if self._on_hold():
            queued = _queued(self._store)
            for record in queued:
                if not self._images.is_prepared_now(record):
                    self._note(record, WAITING)
            return bool(queued)
        waiting = [record for record in self._ready() if not self._start_plain(record)]
        if waiting:
            self._woken = (
                self._place(waiting[0]) or self._woken
            )  # then look at the next one at once
            self._note_followers(waiting[0], waiting[1:])
        else:
            self._trouble = None
        queued = _queued(self._store)
        self._stand_by([one for one in queued if one.spec.gpus and self._images.is_ready(one)])
        return bool(queued)

    def _ready(self) -> List[JobRecord]:
        """Queued jobs that may start. One whose image is still to come blocks nobody: that is
        seen to here."""
        ready = []
        for record in _queued(self._store):
            if self._images.is_ready(record):
                ready.append(record)
            else:
                self._see_to_image(record)
        return ready

    def _see_to_image(self, record: JobRecord) -> None:
        """Before the process that gets the image starts, for that tells more."""
        if record.waiting_for in ("", WAITING) or self._images.is_abandoned(record.job_id):
            self._note(record, "its image %s" % record.spec.image)
        try:
            self._images.prepare(record)
        except OSError as error:
            self._note(record, "its image, which cannot be prepared yet: %s" % error)

    def _stand_by(self, waiting: List[JobRecord]) -> None:
        """Have the supervisor of the next job ready, unless the host is in trouble."""
        following = waiting[0].job_id if waiting and self._trouble is None else None
        if self._standby is not None and self._standby.job_id != following:
            self._dismiss_standby()
        if self._standby is None and following is not None and self._prepare is not None:
            try:
                self._standby = self._prepare(self._store.layout, following)
            except OSError as error:  # then it is started when its turn has come
                self._complaints.say("no supervisor ahead of time: %s" % error)

    def _dismiss_standby(self) -> None:
        if self._standby is not None:
            self._standby.dismiss()
            self._standby = None

    def _note_followers(self, first: JobRecord, followers: List[JobRecord]) -> None:
        """Only the next one is told who is first: else every start would rewrite all states."""
        for record in followers[:1]:
            self._note(record, "%s, which is ahead of it" % first.job_id)
        for record in followers[1:]:
            self._note(record, "jobs that are ahead of it")

    def _start_plain(self, record: JobRecord) -> bool:
        if record.spec.gpus:
            return False
        self._launch(record, (), ())
        return True

    def _place(self, record: JobRecord) -> bool:
        """Lease all GPUs that the job needs, or none, so that two queues cannot block each
        other. True when it waits no longer."""
        needed, indices = record.spec.gpus, record.spec.gpu_indices
        if self._clock() < self._next_reading or self._mostly_leased(record):
            return False
        reading = self._read_gpus()
        self._known = reading.gpus
        problem = obstacle(needed, reading, indices)
        if problem is not None:
            return self._bear(record, problem)
        self._trouble = None
        own = self._own_gpus()
        possible = candidates(reading.gpus, indices)
        idle = [gpu for gpu in possible if is_idle(gpu) and gpu.uuid not in own]
        try:
            taken = self._lease(idle, record) if len(idle) >= needed else []
        except OSError as error:
            self._next_reading = self._clock() + TROUBLE_ROUND_S
            self._note(record, "a directory for GPU leases: %s" % error)
            return False
        if taken:
            gpus, leases = tuple(gpu for gpu, _ in taken), tuple(fd for _, fd in taken)
            return self._launch(record, gpus, leases)
        self._note(record, waiting_for(needed, possible, lambda uuid: self._holder(uuid, own)))
        if len(idle) < needed:
            self._next_reading = self._clock() + self._busy_pause_s
            self._busy_pause_s = min(BUSY_ROUND_S, 2 * self._busy_pause_s)
        return False

    def _holder(self, uuid: str, own: Dict[str, str]) -> str:
        return self._leases.holder(uuid) or own.get(uuid, "")

    def _bear(self, record: JobRecord, problem: Obstacle) -> bool:
        """Wait for the host to get well; the job fails when that takes too long, which is told by
        True."""
        now = self._clock()
        if self._trouble is None or self._trouble.of != (record.job_id, problem.kind):
            self._trouble = _Trouble((record.job_id, problem.kind), now)
        if now - self._trouble.since >= problem.patience_s:
            self._refuse(record, problem.evidence, problem.hint)
            return True
        self._next_reading = now + TROUBLE_ROUND_S
        self._note(record, "%s; %s" % (problem.evidence, problem.hint))
        return False

    def _note(self, record: JobRecord, reason: str) -> None:
        if record.waiting_for == reason:
            return
        try:
            self._store.note_waiting(record.job_id, reason)
        except (AgentFault, OSError) as error:  # removed meanwhile, or the disk is full
            self._complaints.say("%s waits for %s: %s" % (record.job_id, reason, error))

    def _mostly_leased(self, record: JobRecord) -> bool:
        """Cheaper than NVML: too few GPUs without a lease, of those that it may have."""
        needed = record.spec.gpus
        possible = candidates(self._known, record.spec.gpu_indices)
        free = sum(not self._leases.is_held(gpu.uuid) for gpu in possible)
        if not len(possible) >= needed > free:
            return False
        if record.spec.gpu_indices:
            unread = [GpuSample(gpu.index, gpu.uuid, gpu.name) for gpu in possible]
            said = waiting_for(needed, unread, self._leases.holder)
        else:
            said = "%d of its %d GPUs, leased to other jobs" % (needed - free, needed)
        self._note(record, said)
        return True

    def _lease(self, idle: List[GpuSample], record: JobRecord) -> List[Tuple[Gpu, int]]:
        """Raises OSError, holding nothing then."""
        taken: List[Tuple[Gpu, int]] = []
        try:
            for gpu in idle:
                fd = self._leases.acquire(gpu.uuid, record.job_id)
                if fd is not None:
                    taken.append((Gpu(gpu.index, gpu.uuid, gpu.pci or ""), fd))
                if len(taken) == record.spec.gpus:
                    return taken
        except OSError:
            _free(taken)
            raise
        _free(taken)
        return []

    def _launch(self, record: JobRecord, gpus: Tuple[Gpu, ...], leases: Tuple[int, ...]) -> bool:
        """True once a supervisor has claimed the job. A hold may have come since the round began:
        the driver needs seconds to answer, and earlier jobs needed theirs to start."""
        try:
            if self._on_hold():
                self._note(record, WAITING)
                return False
            if not self._went(record.job_id, gpus, leases):
                self._start(self._store.layout, record.job_id, gpus, leases)
            claimed = self._wait_for_claim(record.job_id)
        finally:
            for fd in leases:
                os.close(fd)
        if not claimed:
            self._count_failure(record)
        return claimed

    def _went(self, job_id: str, gpus: Tuple[Gpu, ...], leases: Tuple[int, ...]) -> bool:
        """Was a supervisor ready for this job?"""
        standby = self._standby
        if standby is None or standby.job_id != job_id:
            return False
        self._standby = None
        return standby.go(gpus, leases)

    def _wait_for_claim(self, job_id: str) -> bool:
        deadline = self._clock() + CLAIM_LIMIT_S
        while self._clock() < deadline:
            if _state(self._store, job_id) != QUEUED:
                return True
            if self._wait(CLAIM_POLL_S):
                self._woken = True  # perhaps for another reason, which the next round sees
        return False

    def _count_failure(self, record: JobRecord) -> None:
        problem = write_problem(self._store.layout.root)
        if problem:  # then no supervisor can claim a job, and it is not the job's fault
            self._next_reading = self._clock() + TROUBLE_ROUND_S
            self._complaints.say("no job can start: %s" % problem)
            return
        if self._on_hold():
            return
        attempts = self._attempts[record.job_id] = self._attempts.get(record.job_id, 0) + 1
        if attempts >= MAX_ATTEMPTS:
            self._refuse(
                record,
                "no supervisor came up in %d attempts" % attempts,
                "read supervisor.err in the job's directory on the host",
            )

    def _refuse(self, record: JobRecord, evidence: str, hint: str) -> None:
        verdict = could_not_start(evidence, hint).to_json()
        try:
            self._store.transition(record.job_id, FAILED, verdict=verdict)
        except AgentFault:
            return  # stopped or claimed meanwhile
        except OSError as error:
            self._complaints.say("%s cannot start: %s" % (record.job_id, error))


def _free(taken: List[Tuple[Gpu, int]]) -> None:
    for _, fd in taken:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _queued(store: JobStore) -> List[JobRecord]:
    return [record for record in store.unfinished() if record.state == QUEUED]


def _state(store: JobStore, job_id: str) -> Optional[str]:
    try:
        return store.record(job_id).state
    except AgentFault:
        return None
