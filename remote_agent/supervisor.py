"""One detached process per running job: starts it, watches it, ends it, writes what became of it.

It claims the job by the transition queued -> starting, so of two supervisors one gives up. GPU
leases are descriptors inherited from the dispatcher and passed on to the program: they are freed
when both have ended, however they ended.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Sequence, Set, Tuple

from remote_agent.cgroup import make_cgroup
from remote_agent.faults import AgentFault, CouldNotStart, complain, complain_of_exception
from remote_agent.kernel import KernelWatch, become_subreaper
from remote_agent.layout import Layout
from remote_agent.leases import Leases
from remote_agent.leftovers import naming_leftovers
from remote_agent.processes import Identity, boot_id, identify, identity_of, is_alive
from remote_agent.protocol.job import (
    FAILED,
    LOST,
    PROCESS,
    RUNNING,
    STARTING,
    TRANSITIONS,
    Verdict,
)
from remote_agent.runtimes import runtime_class
from remote_agent.runtimes.base import Ending, Gpu, Job, Runtime
from remote_agent.stopping import requested_grace
from remote_agent.store import JobStore
from remote_agent.tree import Tree
from remote_agent.verdict import LOG_TAIL, Evidence, could_not_start, judge, supervisor_gone
from remote_agent.workspace import job_environment, prepare

WAKING = {signal.SIGCHLD, signal.SIGUSR1}
"""A child ended; somebody wrote a stop request."""
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)

IDLE_WAIT_S = 30.0
RECOVERED_WAIT_S = 1.0
ENDING_WAIT_S = 0.02
LEFTOVER_GRACE_S = 3.0
KILL_LIMIT_S = 10.0
FIRST_LOOK_S, NEXT_LOOK_S = 1.0, 10.0
"""Without a cgroup, processes are noted for a later supervisor: how soon, and how often then."""
RETRY_WRITE_S = 5.0


@dataclass
class _Stop:
    """A stop request in progress; ``deadline`` is on the monotonic clock."""

    deadline: float
    killed: bool = False


def supervise(layout: Layout, job_id: str, gpus: Sequence[Gpu] = ()) -> None:
    """Run a queued job to its end. Returns at once when somebody else has claimed it."""
    _take_signals()
    store = JobStore(layout)
    cgroup = make_cgroup(job_id)
    try:
        store.transition(
            job_id,
            STARTING,
            boot_id=boot_id(),
            supervisor=_own_identity(),
            gpu_ids=[gpu.index for gpu in gpus],
            gpu_uuids=[gpu.uuid for gpu in gpus],
            gpu_pci=[gpu.pci for gpu in gpus],
            cgroup=cgroup.path if cgroup else None,
        )
    except AgentFault:
        return
    _guarded(store, job_id, tuple(gpus), Supervisor.run)


def recover(layout: Layout, job_id: str) -> None:
    """Take over a job whose supervisor was killed, or end what is left of it."""
    _take_signals()
    store = JobStore(layout)
    if not store.take_over(job_id, _is_orphaned, supervisor=_own_identity()):
        return
    details = store.details(job_id)
    gpus = _leased(details)
    _hold(gpus)
    told = details.get("process")
    process = None if told is None else Identity.from_json(told)
    _guarded(store, job_id, gpus, lambda supervisor: supervisor.run_recovered(process))


class Supervisor:
    def __init__(self, store: JobStore, job_id: str, gpus: Tuple[Gpu, ...]) -> None:
        self._store = store
        self._kernel = KernelWatch()
        self._stop: Optional[_Stop] = None
        self._reaped: Dict[int, int] = {}
        self._noted: Optional[Identity] = None
        self._seen_pids: Set[int] = set()
        self._members_due = 0.0
        self._remembered: Set[int] = set()
        self._recovered = False
        self._job_id = job_id
        spec, paths = store.record(job_id).spec, store.layout.job(job_id)
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

    def abandon(self) -> None:
        """The supervisor is broken: leave nothing running all the same."""
        for step in (self._runtime.kill, self._runtime.clean_up, self._end_leftovers):
            try:
                step()
            except Exception:
                complain_of_exception()

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
        self._store.transition(
            self._job_id, RUNNING, started_at=time.time(), **self._note_process()
        )
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
            ending = self._runtime.poll(self._reaped)
            if ending is not None:
                return ending
            if self._runtime.process != self._noted:
                self._store.take_over(self._job_id, lambda _: True, **self._note_process())
            if self._stop is None and self._stop_requested():
                self._begin_stop()
            self._enforce_deadline()
            pause = ENDING_WAIT_S if self._stop else min(idle_s, self._runtime.patience_s)
            if self._may_lose_some():
                pause = min(pause, NEXT_LOOK_S if self._remembered else FIRST_LOOK_S)
            if signal.sigtimedwait(WAKING, pause) is None:
                self._note_members()

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
        if grace_s > 0:
            self._runtime.stop(grace_s)

    def _enforce_deadline(self) -> None:
        if self._stop and not self._stop.killed and time.monotonic() >= self._stop.deadline:
            self._stop.killed = True
            self._runtime.kill()

    def _finish(self, ending: Ending) -> None:
        """Leave no process behind, then say what happened; the order is the promise."""
        self._end_leftovers()
        self._runtime.clean_up()
        unsure = self._recovered and self._may_lose_some()
        since = (self._noted or self._own).start_ticks
        state, verdict = judge(
            Evidence(
                ending,
                stopped=self._stop is not None,
                going_down=ending.exit_code != 0 and _host_goes_down(),
                log_tail=_tail(self._job.paths.log),
                kernel_lines=self._kernel.lines(),
                oom_kills=self._kernel.oom_kills(),
                pci=frozenset(gpu.pci for gpu in self._job.gpus),
                pids=frozenset(self._seen_pids),
            )
        )
        verdict = naming_leftovers(verdict, self._job.tree, since, unsure=unsure)
        _conclude(self._store, self._job_id, state, verdict)

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
        return os.path.exists(self._job.paths.stop)


def _take_signals() -> None:
    become_subreaper()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, WAKING)


def _is_orphaned(details: Dict[str, Any]) -> bool:
    supervisor = details.get("supervisor")
    return supervisor is None or not is_alive(Identity.from_json(supervisor))


def _own_identity() -> Dict[str, int]:
    identity = identify(os.getpid())
    if identity is None:
        raise RuntimeError("/proc does not show this process")
    return identity.to_json()


def _leased(details: Dict[str, Any]) -> Tuple[Gpu, ...]:
    uuids = details.get("gpu_uuids", ())
    pci = details.get("gpu_pci") or [""] * len(uuids)
    return tuple(map(Gpu, details.get("gpu_ids", ()), uuids, pci))


def _hold(gpus: Sequence[Gpu]) -> None:
    """Where the descriptors that leased the GPUs died with their holders (a container has none),
    lease them again; where the program still has them, nothing is to be done."""
    for gpu in gpus:
        try:
            fd = Leases.of_host().acquire(gpu.uuid)
        except OSError:
            complain_of_exception()
            continue
        if fd is not None:
            os.set_inheritable(fd, True)


def _guarded(
    store: JobStore, job_id: str, gpus: Tuple[Gpu, ...], work: Callable[[Supervisor], None]
) -> None:
    """A supervisor must not die silently: whatever breaks it is the job's verdict."""
    supervisor: Optional[Supervisor] = None
    try:
        supervisor = Supervisor(store, job_id, gpus)
        work(supervisor)
    except Exception as error:
        complain_of_exception()
        if supervisor is not None:
            supervisor.abandon()
        tree = Tree(job_id)
        tree.add_self()
        tree.send(signal.SIGKILL)
        said = "the supervisor broke: %s: %s" % (type(error).__name__, error)
        starting = store.record(job_id).state == STARTING
        verdict = could_not_start(said, "see supervisor.err") if starting else supervisor_gone(said)
        _conclude(store, job_id, FAILED if starting else LOST, verdict)


def _host_goes_down() -> bool:
    from remote_agent.shutdown import is_shutting_down  # a supervisor waits in little memory

    return is_shutting_down()


def _conclude(store: JobStore, job_id: str, state: str, verdict: Verdict) -> None:
    """Write the final state; on a full disk try until there is room again."""
    if state not in TRANSITIONS[STARTING] and store.record(job_id).state == STARTING:
        state = FAILED
    while True:
        try:
            store.transition(job_id, state, verdict=verdict.to_json())
        except OSError:
            complain_of_exception()
            time.sleep(RETRY_WRITE_S)
        except AgentFault:
            return  # reconciled as lost meanwhile
        else:
            return


def _tail(path: str) -> bytes:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_TAIL))
        return file.read(LOG_TAIL)
