"""One detached process per running job: starts it, watches it, ends it, writes what became of it.

GPU leases are descriptors inherited from the dispatcher and passed on to the program: they are
freed when both have ended, however they ended. How it gets its job: :mod:`remote_agent.claim`.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Sequence, Set, Tuple

from remote_agent.disk import DiskWatch
from remote_agent.faults import (
    AgentFault,
    CouldNotStart,
    complain,
    complain_of_exception,
)
from remote_agent.kernel import KernelWatch
from remote_agent.lease_upkeep import LeaseUpkeep
from remote_agent.leftovers import naming_leftovers
from remote_agent.processes import (
    Identity,
    identity_of,
    is_alive,
)
from remote_agent.protocol.job import (
    FAILED,
    LOST,
    PROCESS,
    STARTING,
    Verdict,
)
from remote_agent.ranks import RankFailure, first_failure, is_launcher
from remote_agent.runtimes import runtime_class
from remote_agent.runtimes.base import Ending, Gpu, Job, Runtime
from remote_agent.starter import start_sweep
from remote_agent.state_writer import StateWriter
from remote_agent.stopping import requested_grace
from remote_agent.store import JobStore
from remote_agent.tree import Tree
from remote_agent.verdict import LOG_TAIL, Evidence, could_not_start, judge, supervisor_gone
from remote_agent.wakeup import wake_dispatcher
from remote_agent.workspace import job_environment, prepare

STOP_NOW = signal.SIGUSR2
"""A stop request that could not be written. Only supervisors whose state says so understand it."""
WAKING = {signal.SIGCHLD, signal.SIGUSR1, STOP_NOW, signal.SIGTERM}
"""A child ended; somebody wrote a stop request, or could not; the host may go down."""
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)

IDLE_WAIT_S = 30.0
RECOVERED_WAIT_S = 1.0
ENDING_WAIT_S = 0.02
LEFTOVER_GRACE_S = 3.0
KILL_LIMIT_S = 10.0
FIRST_LOOK_S, NEXT_LOOK_S = 1.0, 10.0
"""Without a cgroup, processes are noted for a later supervisor: how soon, and how often then."""
RETRY_POLL_S = 5.0
POLL_PATIENCE_S = 60.0
UNKNOWN_PROCESS = Identity(0, 0)
"""No process has this number."""


@dataclass
class _Stop:
    """A stop request in progress; ``deadline`` is on the monotonic clock."""

    deadline: float
    killed: bool = False


class Supervisor:
    def __init__(
        self, store: JobStore, job_id: str, gpus: Tuple[Gpu, ...], leases: Sequence[int] = ()
    ) -> None:
        self._store = store
        self._leases = list(leases)
        self._lease_upkeep = LeaseUpkeep(gpus, job_id, self._leases)
        self._state = StateWriter(store, job_id)
        self._stop_asked = False
        self._poll_failed_at: Optional[float] = None
        self._kernel = KernelWatch()
        self._stop: Optional[_Stop] = None
        self._reaped: Dict[int, int] = {}
        self._noted: Optional[Identity] = None
        self._seen_pids: Set[int] = set()
        self._members_due = 0.0
        self._remembered: Set[int] = set()
        self._recovered = self._going_down = False
        self._job_id = job_id
        spec, paths = store.record(job_id).spec, store.layout.job(job_id)
        self._disk = DiskWatch(paths.root)
        env = job_environment(spec, paths, gpus)
        tree = Tree.recorded(job_id, paths, store.details(job_id))
        tree.add_self()
        self._own = identity_of(os.getpid())
        self._job = Job(spec, paths, tree, gpus, env)
        self._runtime: Runtime = runtime_class(spec.runtime)(self._job)

    def run(self) -> None:
        ending = self._start()
        if ending is None:
            ending = self._watch(IDLE_WAIT_S)
        self._finish(ending)

    def run_recovered(self, process: Optional[Identity]) -> None:
        """``process`` is None where the earlier supervisor was killed while it started it."""
        self._recovered = True
        if process is None:
            self._runtime.kill()
            self._finish(Ending(unknown="its supervisor was killed while it started the job"))
            return
        self._job.tree.add_root(process)
        self._noted = process
        self._runtime.recover(process)
        self._finish(self._watch(RECOVERED_WAIT_S))

    def run_rebuilt(self) -> None:
        """Its records were damaged, and which process to watch is not known: end them all."""
        self._recovered = True
        self._runtime.recover(UNKNOWN_PROCESS)
        self._begin_stop()
        self._finish(self._watch(RECOVERED_WAIT_S))

    def abandon(self, state: str, verdict: Verdict) -> None:
        """The supervisor is broken: leave nothing running all the same."""
        steps = (self._runtime.kill, self._runtime.clean_up, self._end_leftovers)
        for step in (*steps, self._release_gpus):
            try:
                step()
            except Exception:
                complain_of_exception()
        self._state.conclude(state, verdict)

    def _start(self) -> Optional[Ending]:
        job = self._job
        try:
            prepare(self._store.layout, job.spec, self._stop_requested)
            if self._stop_requested():
                self._stop = _Stop(0.0)
                return Ending()
            self._runtime.start()
        except CouldNotStart as problem:
            return Ending(could_not_start=problem)
        except OSError as error:
            said = "could not start it: %s" % error
            return Ending(could_not_start=CouldNotStart(said, "check the host's disk (`df -h`)"))
        self._state.running(started_at=time.time(), **self._note_process())
        return None

    def _note_process(self) -> Dict[str, Any]:
        """Remember the process to watch; what the job's records must say of it."""
        self._noted = self._runtime.process
        if self._noted is None:
            return {}
        self._job.tree.add_root(self._noted)
        self._seen_pids.add(self._noted.pid)
        return {"pid": self._noted.pid, "process": self._noted.to_json()}

    def _watch(self, idle_s: float) -> Ending:
        while True:
            self._reap()
            ending = self._poll()
            if ending is not None:
                return ending
            if self._runtime.process != self._noted:
                self._state.note(**self._note_process())
            if self._stop is None and self._stop_requested():
                self._begin_stop()
            self._enforce_deadline()
            self._state.keep_up()
            self._lease_upkeep.keep()
            pause = ENDING_WAIT_S if self._stop else min(idle_s, self._runtime.patience_s)
            if self._may_lose_some():
                pause = min(pause, NEXT_LOOK_S if self._remembered else FIRST_LOOK_S)
            self._wait(pause)

    def _poll(self) -> Optional[Ending]:
        """An error of the operating system (a full disk, no memory) ends no running program."""
        try:
            ending = self._runtime.poll(self._reaped)
        except OSError:
            now = time.monotonic()
            if self._poll_failed_at is None:
                complain_of_exception()
                self._poll_failed_at = now
            lives = self._noted is not None and is_alive(self._noted)
            if not lives and now - self._poll_failed_at >= POLL_PATIENCE_S:
                raise
            return None
        self._poll_failed_at = None
        return ending

    def _wait(self, pause_s: float) -> None:
        """Until a signal comes; one of them is a stop request that no disk is needed for."""
        if self._poll_failed_at is not None:
            pause_s = min(pause_s, RETRY_POLL_S)
        woken = signal.sigtimedwait(WAKING, pause_s)
        if woken is None:
            self._disk.look()
            self._note_members()
        elif woken.si_signo == STOP_NOW:
            self._stop_asked = True
        elif woken.si_signo == signal.SIGTERM and _host_goes_down():
            self._going_down = True
            self._runtime.host_goes_down()

    def _note_members(self) -> None:
        """The kernel names its victims by number, when they are gone."""
        now = time.monotonic()
        if now >= self._members_due:
            self._members_due = now + (NEXT_LOOK_S if self._may_lose_some() else IDLE_WAIT_S)
            pids = set(self._job.tree.pids())
            self._seen_pids |= pids
            if self._may_lose_some():
                self._remember(pids)

    def _may_lose_some(self) -> bool:
        spec = self._job.spec
        return spec.runtime == PROCESS and self._job.tree.cgroup is None

    def _remember(self, pids: Set[int]) -> None:
        """For a supervisor that takes over: it is no longer the ancestor of what this one has
        seen."""
        if pids == self._remembered:
            return
        self._remembered = pids
        try:
            self._job.tree.remember(self._job.paths, pids)
        except OSError as error:  # a full disk: the next look tries again
            self._remembered = set()
            complain("cannot remember the processes of %s: %s" % (self._job_id, error))

    def _begin_stop(self) -> None:
        grace_s = requested_grace(self._job.paths)
        self._stop = _Stop(time.monotonic() + grace_s)
        try:
            if grace_s > 0:
                self._runtime.stop(grace_s)
        except OSError:  # no memory for another process, say: the deadline's kill needs none
            complain_of_exception()

    def _enforce_deadline(self) -> None:
        if self._stop and not self._stop.killed and time.monotonic() >= self._stop.deadline:
            self._stop.killed = True
            self._runtime.kill()

    def _finish(self, ending: Ending) -> None:
        """Leave no process behind, free the GPUs, then say what happened; the order is the
        promise. Saying it may have to wait for room on the disk."""
        disk = self._disk.said()
        self._end_leftovers()
        self._clean_up()
        self._release_gpus()
        unsure = self._recovered and self._may_lose_some()
        since = (self._noted or self._own).start_ticks
        log_tail = _tail(self._job.paths.log)
        rank = first_failure(log_tail) if is_launcher(self._job.spec.argv) else None
        state, verdict = judge(
            Evidence(
                ending,
                stopped=self._stop is not None,
                going_down=ending.exit_code != 0 and (self._going_down or _host_goes_down()),
                log_tail=log_tail,
                kernel_lines=self._kernel.lines(),
                oom_kills=self._kernel.oom_kills(),
                pci=frozenset(gpu.pci for gpu in self._job.gpus),
                pids=frozenset(self._seen_pids | self._pids_of(rank)),
                disk=disk,
                first_rank=rank,
            )
        )
        verdict = naming_leftovers(verdict, self._job.tree, since, unsure=unsure)
        self._state.conclude(state, verdict)
        if os.path.exists(self._job.paths.container_env) and not self._going_down:
            start_sweep(self._store.layout)

    def _pids_of(self, rank: Optional[RankFailure]) -> Set[int]:
        """In a container, numbers are others than the kernel's log has."""
        known = rank is not None and rank.pid and self._job.spec.runtime == PROCESS
        return {rank.pid} if rank is not None and known else set()

    def _clean_up(self) -> None:
        """What cannot be removed is no reason to lose the verdict."""
        try:
            self._runtime.clean_up()
        except OSError:
            complain_of_exception()

    def _release_gpus(self) -> None:
        while self._leases:
            os.close(self._leases.pop())
        wake_dispatcher(self._store.layout)

    def _end_leftovers(self) -> None:
        """Processes may outlive the main one: ask, wait, kill until none is left."""
        tree, now = self._job.tree, time.monotonic()
        deadline = max(self._stop.deadline if self._stop else 0.0, now + LEFTOVER_GRACE_S)
        if self._stop and self._stop.killed:
            deadline = now
        left = tree.send(signal.SIGTERM) if deadline > now else len(tree.pids())
        while left and time.monotonic() < deadline + KILL_LIMIT_S:
            signal.sigtimedwait(WAKING, ENDING_WAIT_S)
            self._reap()
            force = time.monotonic() >= deadline
            left = tree.send(signal.SIGKILL) if force else len(tree.pids())

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped[pid] = status
            self._seen_pids.add(pid)

    def _stop_requested(self) -> bool:
        return self._stop_asked or os.path.exists(self._job.paths.stop)


def guarded(
    store: JobStore,
    job_id: str,
    gpus: Tuple[Gpu, ...],
    leases: Sequence[int],
    work: Callable[[Supervisor], None],
) -> None:
    """A supervisor must not die silently: whatever breaks it is the job's verdict."""
    supervisor: Optional[Supervisor] = None
    try:
        supervisor = Supervisor(store, job_id, gpus, leases)
        work(supervisor)
    except Exception as error:
        complain_of_exception()
        said = "the supervisor broke: %s: %s" % (type(error).__name__, error)
        starting = _is_starting(store, job_id)
        state = FAILED if starting else LOST
        verdict = could_not_start(said, "see supervisor.err") if starting else supervisor_gone(said)
        if supervisor is not None:
            supervisor.abandon(state, verdict)
            return
        tree = Tree(job_id)
        tree.add_self()
        tree.send(signal.SIGKILL)
        StateWriter(store, job_id).conclude(state, verdict)


def _is_starting(store: JobStore, job_id: str) -> bool:
    try:
        return store.record(job_id).state == STARTING
    except (AgentFault, OSError):
        return False


def _host_goes_down() -> bool:
    from remote_agent.shutdown import is_shutting_down  # a supervisor waits in little memory

    return is_shutting_down()


def _tail(path: str) -> bytes:
    """Empty where the log cannot be read, as when somebody deleted it."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL))
            return file.read(LOG_TAIL)
    except OSError:
        complain_of_exception()
        return b""
