"""Jobs on disk: the only truth about them. Safe for several processes at once."""

from __future__ import annotations

import errno
import math
import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

from remote_agent.faults import DAMAGE, AgentFault, complain, complain_rarely
from remote_agent.files import (
    locked,
    make_private,
    read_json,
    sync_directory,
    write_atomic,
    write_json,
)
from remote_agent.layout import JobPaths, Layout
from remote_agent.processes import machine_id
from remote_agent.protocol.job import (
    DAMAGED,
    FINAL,
    JOB_ID,
    QUEUED,
    RUNNING,
    STARTING,
    TRANSITIONS,
    JobRecord,
    JobSpec,
    Verdict,
)
from remote_agent.state_file import release_reserve, reserve, write_state
from remote_agent.succession import needs_this_version
from remote_agent.tree_removal import NotRemoved, remove_tree

Stamp = Tuple[int, int, int, int]
"""Of a job's two files: modification times in ns, inodes. Every change of the state makes another
file; the specification never changes unless it is damaged."""

NEWER = "+1"
"""Added to the machine of a job that older versions do not understand: they leave jobs of another
machine alone, also at a boot. To them there is no such job."""
LEFTOVER_AGE_S = 3600.0
DAMAGED_HINT = (
    "`rigup stop` ends what still runs of it and writes readable records; its log and its outputs "
    "can be read as before"
)


@dataclass(frozen=True)
class _Seen:
    """A job's state file as it was at ``stamp``, whole and as the record that is told."""

    stamp: Stamp
    state: Dict[str, Any]
    record: JobRecord


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
        self._seen: Dict[str, _Seen] = {}

    def create(self, spec: JobSpec, boot_id: str) -> Tuple[JobRecord, bool]:
        """Queue a job; True when it is new. The same spec again gives the existing job.

        Raises AgentFault ``job-exists`` for another spec under the same id.
        """
        temporary = os.path.join(self.layout.jobs, ".%s.%d" % (spec.job_id, os.getpid()))
        with locked(self.layout.submit_lock):
            try:
                self._write_new(temporary, spec, boot_id)
                os.rename(temporary, self.layout.job(spec.job_id).root)
            except OSError as error:
                if os.path.lexists(temporary):
                    remove_tree(temporary)
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                return self._existing(spec), False
        sync_directory(self.layout.jobs)
        return self.record(spec.job_id), True

    def record(self, job_id: str) -> JobRecord:
        """Raises AgentFault ``no-such-job``. A job whose files make no sense is ``damaged``."""
        paths = self.layout.job(self._known(job_id))
        try:
            seen = self._look(job_id)
        except DAMAGE as error:
            if not os.path.exists(paths.state) and not os.path.exists(paths.spec):
                raise AgentFault("no-such-job", "there is no job %s here" % job_id) from None
            return self._damaged_record(job_id, error)
        return _with_log_size(seen.record, _size(paths.log))

    def records(self) -> List[JobRecord]:
        """All jobs in the order in which they were queued."""
        return self._sorted(self.record)

    def unfinished(self) -> List[JobRecord]:
        """Jobs that are not final, in order. A job that once was found final is not looked at
        again, so a look costs little however many there are. Sizes of logs are not told."""
        return [record for record in self._sorted(self._glance) if not record.is_final]

    def details(self, job_id: str) -> Dict[str, Any]:
        """The whole state file, with the fields that only the agent itself needs. Raises
        AgentFault ``damaged-job``."""
        paths = self.layout.job(self._known(job_id))
        try:
            return dict(self._look(job_id).state)
        except DAMAGE as error:
            raise _damaged(paths, error) from None

    def known_state(self, job_id: str) -> Dict[str, Any]:
        """The state file alone, of a job whose specification cannot be read. Raises one of
        DAMAGE."""
        paths = self.layout.job(self._known(job_id))
        state = read_json(paths.state)
        _check_state(paths, state)
        return state

    def transition(self, job_id: str, state: str, **changes: Any) -> JobRecord:
        """Move a job to ``state`` along the transition table.

        Raises AgentFault ``illegal-transition`` when the table forbids it, so of several
        processes that try the same move exactly one succeeds; ``damaged-job``.
        """
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            current = _read_state(paths)
            if state not in TRANSITIONS[current["state"]]:
                raise AgentFault(
                    "illegal-transition", "%s is %s, not %s" % (job_id, current["state"], state)
                )
            if current["state"] == QUEUED:
                changes.setdefault("waiting_for", "")
            if state in FINAL:
                changes.setdefault("ended_at", self._clock())
            write_state(paths, dict(current, state=state, **changes))
        if state in FINAL:
            release_reserve(paths)
        return self.record(job_id)

    def note_waiting(self, job_id: str, reason: str) -> None:
        """Say why a queued job has not started; nothing is written where nothing changes."""
        if self.record(job_id).waiting_for != reason:
            self._change_queued(job_id, waiting_for=reason)

    def note_image_ready(self, job_id: str) -> None:
        """From now on a queued job with an image plan may start."""
        self._change_queued(job_id, waiting_for="", image_ready=True)

    def image_is_ready(self, record: JobRecord) -> bool:
        """Raises AgentFault ``damaged-job``."""
        if record.spec.image_plan is None:
            return True
        return self.details(record.job_id).get("image_ready") is True

    def _change_queued(self, job_id: str, **changes: Any) -> None:
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            current = _read_state(paths)
            if current["state"] == QUEUED:
                write_json(paths.state, dict(current, **changes))

    def take_over(
        self, job_id: str, orphaned: Callable[[Dict[str, Any]], bool], **changes: Any
    ) -> bool:
        """Change details of a started job if it is ``orphaned``, judged under the job's lock: of
        several processes that try, one gets True."""
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            current = _read_state(paths)
            if current["state"] not in (STARTING, RUNNING) or not orphaned(current):
                return False
            write_state(paths, dict(current, **changes))
        return True

    def repair(
        self, job_id: str, state: Dict[str, Any], spec: JobSpec, orphaned: Callable[[], bool]
    ) -> bool:
        """Give a damaged job a readable ``state`` and ``spec``; what was there is kept beside, as
        ``*.damaged``. False where it is not damaged (any more), or not ``orphaned``, judged under
        the job's lock."""
        paths = self.layout.job(self._known(job_id))
        with locked(paths.lock):
            if self.record(job_id).state != DAMAGED or not orphaned():
                return False
            if self._spec_problem(job_id):
                _set_aside(paths.spec)
                write_json(paths.spec, spec.to_json())
            _set_aside(paths.state)
            write_state(paths, dict(state, machine=self._mark(spec)))
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
        state = {"state": QUEUED, "created_at": self._clock(), "boot_id": boot_id}
        state.update(machine=self._mark(spec), sequence=self._next_sequence())
        write_json(paths.state, state)
        write_atomic(paths.log, b"")
        reserve(paths)

    def _next_sequence(self) -> int:
        """After every job that is there; the submit lock is held."""
        return 1 + max([record.sequence for record in self._sorted(self._glance)], default=0)

    def _existing(self, spec: JobSpec) -> JobRecord:
        record = self.record(spec.job_id)
        if record.spec != spec:
            raise AgentFault("job-exists", "%s exists here with another spec" % spec.job_id)
        return record

    def _sorted(self, look: Callable[[str], JobRecord]) -> List[JobRecord]:
        found = []
        for name in os.listdir(self.layout.jobs):
            if JOB_ID.match(name):
                try:
                    found.append(look(name))
                except (AgentFault, OSError):
                    continue  # of another machine, or removed just now
        return sorted(found, key=lambda record: record.order)

    def _glance(self, job_id: str) -> JobRecord:
        cached = self._seen.get(job_id)
        if cached is not None and cached.record.is_final:
            return cached.record
        return self.record(job_id)

    def _look(self, job_id: str) -> _Seen:
        """The job's files, read only where they changed. Raises one of DAMAGE, AgentFault."""
        try:
            stamp = _stamp(self.layout.job(job_id))
            cached = self._seen.get(job_id)
            if cached is None or cached.stamp != stamp:
                cached = self._seen[job_id] = self._read(job_id, stamp)
        except DAMAGE:
            self._seen.pop(job_id, None)
            raise
        return cached

    def _damaged_record(self, job_id: str, error: Exception) -> JobRecord:
        """What can still be told of a job whose state or specification cannot be read."""
        paths = self.layout.job(job_id)
        said = "its records in %s cannot be read (%s)" % (paths.root, error)
        complain_rarely("job %s is damaged: %s" % (job_id, said))
        return JobRecord(
            unknown_spec(job_id) if self._spec_problem(job_id) else read_spec(paths),
            DAMAGED,
            os.stat(paths.root).st_ctime,
            log_bytes=_size(paths.log),
            verdict=Verdict("damaged", evidence=said, hint=DAMAGED_HINT),
        )

    def _spec_problem(self, job_id: str) -> str:
        try:
            read_spec(self.layout.job(job_id))
        except DAMAGE as error:
            return str(error) or type(error).__name__
        return ""

    def _read(self, job_id: str, stamp: Stamp) -> _Seen:
        paths = self.layout.job(job_id)
        state = read_json(paths.state)
        if state.get("machine", self._machine) not in (self._machine, self._machine + NEWER):
            raise AgentFault("no-such-job", "%s runs on another machine" % job_id)
        _check_state(paths, state)
        record = JobRecord.from_json(dict(state, spec=read_spec(paths).to_json()))
        return _Seen(stamp, state, record)

    def _mark(self, spec: JobSpec) -> str:
        return self._machine + NEWER if needs_this_version(spec) else self._machine

    def _known(self, job_id: str) -> str:
        if not isinstance(job_id, str) or not JOB_ID.match(job_id):
            raise AgentFault("no-such-job", "%r is not a job id" % (job_id,))
        return job_id


def read_spec(paths: JobPaths) -> JobSpec:
    """Raises one of DAMAGE."""
    spec = JobSpec.from_json(read_json(paths.spec))
    words = (spec.job_id, spec.name, spec.runtime, *spec.argv)
    if not spec.argv or not all(isinstance(word, str) for word in words):
        raise ValueError("%s: no command in it" % paths.spec)
    return spec


def unknown_spec(job_id: str) -> JobSpec:
    """Stands for a specification that cannot be read any more."""
    return JobSpec(job_id, job_id, ("(unknown)",))


def _read_state(paths: JobPaths) -> Dict[str, Any]:
    try:
        state = read_json(paths.state)
        _check_state(paths, state)
    except (FileNotFoundError, ValueError, TypeError) as error:
        if not os.path.exists(paths.root):
            raise
        raise _damaged(paths, error) from None
    return state


def _damaged(paths: JobPaths, error: Exception) -> AgentFault:
    if not os.path.exists(paths.root):
        return AgentFault("no-such-job", "there is no job in %s" % paths.root)
    return AgentFault("damaged-job", "the records in %s cannot be read: %s" % (paths.root, error))


def _check_state(paths: JobPaths, state: Dict[str, Any]) -> None:
    if state.get("state") not in TRANSITIONS or not _is_number(state.get("created_at")):
        raise ValueError("%s: no state or no time in it" % paths.state)
    if not isinstance(state.get("sequence", 0), int):
        raise ValueError("%s: its sequence is no number" % paths.state)


def _set_aside(path: str) -> None:
    try:
        os.replace(path, path + ".damaged")
    except FileNotFoundError:
        return


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _stamp(paths: JobPaths) -> Stamp:
    state, spec = os.stat(paths.state), os.stat(paths.spec)
    return state.st_mtime_ns, state.st_ino, spec.st_mtime_ns, spec.st_ino


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _with_log_size(record: JobRecord, size: int) -> JobRecord:
    if record.log_bytes == size:
        return record
    return JobRecord(**dict(vars(record), log_bytes=size))
