"""Jobs on disk: the only truth about them. Safe for several processes at once."""

from __future__ import annotations

import errno
import os
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from remote_agent.faults import DAMAGE, AgentFault, complain
from remote_agent.files import (
    locked,
    make_private,
    read_json,
    sync_directory,
    write_atomic,
    write_json,
)
from remote_agent.layout import Layout
from remote_agent.processes import machine_id
from remote_agent.protocol.job import (
    FINAL,
    JOB_ID,
    QUEUED,
    RUNNING,
    STARTING,
    TRANSITIONS,
    JobRecord,
    JobSpec,
)
from remote_agent.tree_removal import NotRemoved, remove_tree

Stamp = Tuple[int, int]

LEFTOVER_AGE_S = 3600.0


class JobStore:
    """``clock`` gives seconds since the epoch. Jobs of another ``machine`` that keeps its state
    in the same (network) directory are not ours to see or judge."""

    def __init__(
        self,
        layout: Layout,
        clock: Callable[[], float] = time.time,
        machine: Optional[str] = None,
    ) -> None:
        self.layout = layout
        self._clock = clock
        self._machine = machine or machine_id()
        self._seen: Dict[str, Tuple[Stamp, JobRecord]] = {}
        self._damaged: Set[str] = set()

    def create(self, spec: JobSpec, boot_id: str) -> Tuple[JobRecord, bool]:
        """Queue a job; True when it is new. The same spec again gives the existing job.

        Raises AgentFault ``job-exists`` for another spec under the same id.
        """
        temporary = os.path.join(self.layout.jobs, ".%s.%d" % (spec.job_id, os.getpid()))
        self._write_new(temporary, spec, boot_id)
        try:
            os.rename(temporary, self.layout.job(spec.job_id).root)
        except OSError as error:
            remove_tree(temporary)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return self._existing(spec), False
        sync_directory(self.layout.jobs)
        return self.record(spec.job_id), True

    def record(self, job_id: str) -> JobRecord:
        """Raises AgentFault ``no-such-job``, or ``damaged-job`` where its files make no sense."""
        paths = self.layout.job(self._known(job_id))
        try:
            stamp = _stamp(paths.state)
            cached = self._seen.get(job_id)
            if cached is None or cached[0] != stamp:
                cached = (stamp, self._read(job_id))
                self._seen[job_id] = cached
        except FileNotFoundError:
            self._seen.pop(job_id, None)
            raise AgentFault("no-such-job", "there is no job %s here" % job_id) from None
        except DAMAGE as error:
            raise AgentFault(
                "damaged-job", "the files in %s cannot be read: %s" % (paths.root, error)
            ) from None
        return _with_log_size(cached[1], _size(paths.log))

    def records(self) -> List[JobRecord]:
        """All jobs, oldest first. Those whose files are damaged are left out, and said once on
        standard error: one of them must not make the others unreachable."""
        found = []
        for name in os.listdir(self.layout.jobs):
            record = self._record_or_none(name)
            if record is not None:
                found.append(record)
        return sorted(found, key=lambda record: (record.created_at, record.job_id))

    def details(self, job_id: str) -> Dict[str, Any]:
        """The whole state file, with the fields that only the agent itself needs."""
        return read_json(self.layout.job(self._known(job_id)).state)

    def transition(self, job_id: str, state: str, **changes: Any) -> JobRecord:
        """Move a job to ``state`` along the transition table.

        Raises AgentFault ``illegal-transition`` when the table forbids it, so of several
        processes that try the same move exactly one succeeds.
        """
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            current = read_json(paths.state)
            if state not in TRANSITIONS[current["state"]]:
                raise AgentFault(
                    "illegal-transition", "%s is %s, not %s" % (job_id, current["state"], state)
                )
            if current["state"] == QUEUED:
                changes.setdefault("waiting_for", "")
            if state in FINAL:
                changes.setdefault("ended_at", self._clock())
            write_json(paths.state, dict(current, state=state, **changes))
        return self.record(job_id)

    def note_waiting(self, job_id: str, reason: str) -> None:
        """Say why a queued job has not started; nothing is written where nothing changes."""
        if self.record(job_id).waiting_for == reason:
            return
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            current = read_json(paths.state)
            if current["state"] == QUEUED:
                write_json(paths.state, dict(current, waiting_for=reason))

    def take_over(
        self, job_id: str, orphaned: Callable[[Dict[str, Any]], bool], **changes: Any
    ) -> bool:
        """Change details of a started job if it is ``orphaned``, judged under the job's lock: of
        several processes that try, one gets True."""
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            current = read_json(paths.state)
            if current["state"] not in (STARTING, RUNNING) or not orphaned(current):
                return False
            write_json(paths.state, dict(current, **changes))
        return True

    def remove(self, job_id: str) -> None:
        """Delete a finished job with its log and outputs. Raises AgentFault ``not-final``, or
        ``not-removed`` where files of another user are left (the job is gone from the lists)."""
        record = self.record(job_id)
        if not record.is_final:
            raise AgentFault("not-final", "%s is still %s: stop it first" % (job_id, record.state))
        doomed = os.path.join(self.layout.jobs, ".%s.%d.removed" % (job_id, os.getpid()))
        os.rename(self.layout.job(job_id).root, doomed)
        self._seen.pop(job_id, None)
        try:
            remove_tree(doomed)
        except NotRemoved as error:
            raise AgentFault("not-removed", str(error.strerror)) from None

    def clear_leftovers(self) -> None:
        """Delete what processes that were killed half-way have left: old hidden directories.
        One that cannot be deleted (a container's root-owned files) is left and complained of."""
        for name in os.listdir(self.layout.jobs):
            path = os.path.join(self.layout.jobs, name)
            try:
                if name.startswith(".") and self._is_old(path):
                    remove_tree(path)
            except OSError as error:
                complain("cannot clear %s away: %s" % (path, error))

    def _is_old(self, path: str) -> bool:
        return self._clock() - os.lstat(path).st_mtime > LEFTOVER_AGE_S

    def _write_new(self, root: str, spec: JobSpec, boot_id: str) -> None:
        paths = type(self.layout.job(spec.job_id))(root)
        for directory in (root, paths.outputs, paths.work, paths.home):
            make_private(directory)
        write_json(paths.spec, spec.to_json())
        now = self._clock()
        state = {"state": QUEUED, "created_at": now, "boot_id": boot_id}
        write_json(paths.state, dict(state, machine=self._machine))
        write_atomic(paths.log, b"")

    def _existing(self, spec: JobSpec) -> JobRecord:
        record = self.record(spec.job_id)
        if record.spec != spec:
            raise AgentFault("job-exists", "%s exists here with another spec" % spec.job_id)
        return record

    def _record_or_none(self, name: str) -> Optional[JobRecord]:
        if not JOB_ID.match(name):
            return None
        try:
            return self.record(name)
        except AgentFault as fault:
            if fault.code == "damaged-job" and name not in self._damaged:
                self._damaged.add(name)
                complain("%s; it is left out" % fault.message)
            return None

    def _read(self, job_id: str) -> JobRecord:
        paths = self.layout.job(job_id)
        state = read_json(paths.state)
        if state.get("machine", self._machine) != self._machine:
            raise AgentFault("no-such-job", "%s runs on another machine" % job_id)
        if state.get("state") not in TRANSITIONS or not _is_time(state.get("created_at")):
            raise ValueError("%s: no state or no time in it" % paths.state)
        return JobRecord.from_json(dict(state, spec=read_json(paths.spec)))

    def _known(self, job_id: str) -> str:
        if not isinstance(job_id, str) or not JOB_ID.match(job_id):
            raise AgentFault("no-such-job", "%r is not a job id" % (job_id,))
        return job_id


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_ino


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _with_log_size(record: JobRecord, size: int) -> JobRecord:
    if record.log_bytes == size:
        return record
    return JobRecord(**dict(vars(record), log_bytes=size))
