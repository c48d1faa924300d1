"""What the agent does on request: one method per operation, named ``op_<name>``.

A method returns (result, payload) at once, or Steps when it has to wait.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Generator, Iterator, List, Type, TypeVar, Union

from remote_agent.faults import AgentFault, complain
from remote_agent.layout import Layout
from remote_agent.logs import read_log
from remote_agent.metrics.sampler import Sampler
from remote_agent.outputs import (
    hash_output,
    output_roots,
    page_of_outputs,
    read_output,
    redirected_outputs,
)
from remote_agent.processes import boot_id, find_supervisor
from remote_agent.protocol.codec import MAX_PAYLOAD
from remote_agent.protocol.job import DAMAGED, QUEUED, STOPPED, JobRecord, JobSpec, Verdict
from remote_agent.protocol.messages import Event, Request, from_payload, to_payload
from remote_agent.protocol.snapshot import SnapshotEntry
from remote_agent.protocol.values import MAX_INT
from remote_agent.reboot_hold import reboot_is_due
from remote_agent.reconcile import reconcile, reconcile_record
from remote_agent.snapshots import SnapshotStore
from remote_agent.spec_check import check_spec
from remote_agent.starter import start_dispatcher, start_recovery, start_supervisor, start_sweep
from remote_agent.stopping import ask_to_repair, ask_to_stop, stop_running
from remote_agent.store import JobStore
from remote_agent.succession import end_other_dispatchers, needs_this_version
from remote_agent.sweep import discard, jobs_with_leftovers
from remote_agent.tasks import Answer, Steps, Wait
from remote_agent.wakeup import wake_dispatcher
from remote_agent.watching import Changes

T = TypeVar("T")

RECOVER_AGAIN_S = 10.0
MIN_INTERVAL_S = 0.2
JOBS_INTERVAL_S = 0.5
LOOK_AGAIN_S = 2.0
"""How often readers of a job's log have it looked at whether its supervisor lives."""
MAX_GRACE_S = 3600.0


class Operations:
    """``send`` delivers an event, ``congested`` tells that the client reads too slowly."""

    def __init__(
        self,
        layout: Layout,
        send: Callable[[Event], None],
        cancel: Callable[[int], None],
        congested: Callable[[], bool],
    ) -> None:
        self.store = JobStore(layout)
        self._layout = layout
        self._send = send
        self._cancel = cancel
        self._congested = congested
        self._boot_id = boot_id()
        self._recovering: Dict[str, float] = {}
        self._looked_after: Dict[str, float] = {}
        self._repairing: Dict[str, float] = {}
        self._sampler = Sampler(layout.root)
        self._snapshots = SnapshotStore(layout)

    def begin(self) -> None:
        """First contact: correct the records, and let waiting jobs start."""
        try:
            self._begin()
        except OSError as error:  # the host is in trouble: all the more a reason to be reachable
            complain("at the beginning: %s" % error)

    def _begin(self) -> None:
        self.store.clear_leftovers()
        queued = [record for record in self._records() if record.state == QUEUED]
        if any(needs_this_version(record.spec) for record in queued):
            end_other_dispatchers(self._layout)
        if queued:
            start_dispatcher(self._layout)
        if jobs_with_leftovers(self.store):
            start_sweep(self._layout)

    def handle(self, request: Request) -> Union[Answer, Steps]:
        operation = getattr(self, "op_" + request.op, None)
        if operation is None:
            raise AgentFault("unknown-op", "this agent has no operation %r" % request.op)
        answer: Union[Answer, Steps] = operation(request)
        return answer

    def close(self) -> None:
        self._sampler.close()

    def op_submit(self, request: Request) -> Answer:
        spec = JobSpec.from_json(_argument(request, "spec", dict))
        check_spec(spec, self._layout)
        record, new = self.store.create(spec, self._boot_id)
        if new and needs_this_version(spec):
            end_other_dispatchers(self._layout)
        waits = spec.gpus > 0 or spec.image_plan is not None
        if new and not waits and not reboot_is_due():
            start_supervisor(self._layout, spec.job_id)
        elif record.state == QUEUED:
            start_dispatcher(self._layout)
            wake_dispatcher(self._layout)
        return {"record": record.to_json(), "new": new}, b""

    def op_jobs(self, request: Request) -> Answer:
        return {}, to_payload([record.to_json() for record in self._records()])

    def op_job(self, request: Request) -> Answer:
        self._reconcile()
        return {"record": self.store.record(_job_id(request)).to_json()}, b""

    def op_stop(self, request: Request) -> Union[Answer, Steps]:
        job_id = _job_id(request)
        grace_s = min(MAX_GRACE_S, max(0.0, _number(request, "grace_s", 10.0)))
        self._reconcile()
        record = self.store.record(job_id)
        if record.state == QUEUED:
            record = self._stop_queued(job_id)
        if record.is_final:
            return {"record": record.to_json()}, b""
        unwritten = ask_to_stop(self._layout.job(job_id), grace_s)
        reconcile = self._reconcile
        if record.state == DAMAGED:
            reconcile = lambda: self._end_damaged(job_id)  # noqa: E731
        return stop_running(self.store, job_id, grace_s, reconcile, unwritten)

    def op_remove(self, request: Request) -> Answer:
        job_id = _job_id(request)
        if job_id in jobs_with_leftovers(self.store) and not discard(self._layout, job_id):
            said = "its container cannot be removed while Docker does not answer: try again then"
            raise AgentFault("not-removed", said)
        self.store.remove(job_id)
        return {}, b""

    def op_read_log(self, request: Request) -> Steps:
        job_id = _job_id(request)
        return read_log(
            self.store,
            job_id,
            int(_number(request, "offset", 0)),
            int(_number(request, "limit", 262144)),
            _number(request, "wait_s", 0.0),
            look_after=lambda: self._look_after(job_id),
        )

    def op_list_outputs(self, request: Request) -> Answer:
        after = str(request.args.get("after", ""))
        record = self.store.record(_job_id(request))
        others = redirected_outputs(record.spec, self._layout.job(record.job_id))
        page, more = page_of_outputs(self._output_roots(request), after, others=others)
        return {"more": more}, to_payload([found.to_json() for found in page])

    def op_read_output(self, request: Request) -> Answer:
        path = _argument(request, "path", str)
        offset, limit = int(_number(request, "offset", 0)), int(_number(request, "limit", 1 << 20))
        return read_output(self._output_roots(request), path, offset, limit)

    def op_hash_output(self, request: Request) -> Steps:
        path = _argument(request, "path", str)
        offset, length = int(_number(request, "offset", 0)), int(_number(request, "length", 0))
        return hash_output(self._output_roots(request), path, offset, length)

    def _output_roots(self, request: Request) -> List[str]:
        record = self.store.record(_job_id(request))
        return output_roots(record.spec, self._layout.job(record.job_id))

    def op_missing_blobs(self, request: Request) -> Answer:
        """Payload: digests or [digest, size] pairs; in the answer the absent ones -> bytes
        already here."""
        return {}, to_payload(self._snapshots.missing(_rows(request)))

    def op_put_blob(self, request: Request) -> Steps:
        steps = self._snapshots.put_part(
            _argument(request, "digest", str),
            int(_number(request, "offset", 0)),
            request.payload,
            bool(request.args.get("final", True)),
        )
        return _without_result(steps)

    def op_put_manifest(self, request: Request) -> Answer:
        entries = [SnapshotEntry.from_json(row) for row in _rows(request)]
        return {"digest": self._snapshots.put_manifest(entries)}, b""

    def op_sample(self, request: Request) -> Steps:
        sample = yield from self._sampler.sample(self.store)
        return {}, to_payload(sample.to_json())

    def op_watch(self, request: Request) -> Steps:
        """Never ends by itself. Events under this request's id: ``jobs`` at once and whenever
        one changed, ``sample`` every ``interval_s``."""
        interval_s = max(MIN_INTERVAL_S, _number(request, "interval_s", 2.0))
        with self._sampler.watching():
            yield from self._watch(request.id, interval_s)
        return {}, b""

    def op_unwatch(self, request: Request) -> Answer:
        self._cancel(int(_number(request, "watch", 0)))
        return {}, b""

    def _watch(self, watch: int, interval_s: float) -> Generator[Wait, None, None]:
        changes, next_sample = Changes(), 0.0
        while True:
            news = changes.since_last(self._records())
            if news is not None:
                self._send(Event(watch, "jobs", to_payload(news)))
            if time.monotonic() >= next_sample and not self._congested():
                next_sample = time.monotonic() + interval_s
                sample = yield from self._sampler.sample(self.store)
                self._send(Event(watch, "sample", to_payload(sample.to_json())))
            until_sample = max(0.0, next_sample - time.monotonic())
            yield Wait(min(JOBS_INTERVAL_S, max(MIN_INTERVAL_S, until_sample)))

    def _records(self) -> List[JobRecord]:
        self._reconcile()
        return self.store.records()

    def _reconcile(self) -> None:
        reconcile(self.store, self._boot_id, self._recover, ask_to_repair=self._ask_to_repair)

    def _look_after(self, job_id: str) -> None:
        now = time.monotonic()
        if now - self._looked_after.get(job_id, -LOOK_AGAIN_S) >= LOOK_AGAIN_S:
            record = self.store.record(job_id)
            self._looked_after[job_id] = now
            reconcile_record(self.store, record, self._boot_id, self._recover)

    def _recover(self, job_id: str) -> None:
        if self._is_due(job_id, self._recovering):
            start_recovery(self._layout, job_id)

    def _ask_to_repair(self, job_id: str) -> None:
        """Only a supervisor that lives knows what the records of its job should say."""
        if self._is_due(job_id, self._repairing):
            ask_to_repair(job_id)

    def _is_due(self, job_id: str, last: Dict[str, float]) -> bool:
        now = time.monotonic()
        if now - last.get(job_id, -RECOVER_AGAIN_S) < RECOVER_AGAIN_S:
            return False
        last[job_id] = now
        return True

    def _end_damaged(self, job_id: str) -> None:
        """A supervisor that lives repairs and ends its job; else one is started that does."""
        if self.store.record(job_id).state == DAMAGED:
            if find_supervisor(job_id) is None:
                self._recover(job_id)
        else:
            self._reconcile()

    def _stop_queued(self, job_id: str) -> JobRecord:
        verdict = Verdict("stopped-by-user", evidence="stopped before it started")
        try:
            record = self.store.transition(job_id, STOPPED, verdict=verdict.to_json())
            wake_dispatcher(self._layout)
            return record
        except AgentFault:
            return self.store.record(job_id)  # a supervisor claimed it just now


def _without_result(steps: Iterator[float]) -> Steps:
    for pause_s in steps:
        yield Wait(pause_s)
    return {}, b""


def _argument(request: Request, name: str, kind: Type[T]) -> T:
    value = request.args.get(name)
    if not isinstance(value, kind):
        raise AgentFault("bad-request", "%s: %r must be %s" % (request.op, name, kind.__name__))
    return value


def _number(request: Request, name: str, default: float) -> float:
    value = request.args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MAX_INT:
        raise AgentFault("bad-request", "%s: %r must be a number" % (request.op, name))
    return value


def _job_id(request: Request) -> str:
    return _argument(request, "job_id", str)


def _rows(request: Request) -> List[Any]:
    rows = from_payload(request.payload, MAX_PAYLOAD)
    if not isinstance(rows, list):
        raise AgentFault("bad-request", "%s: the payload must be a JSON list" % request.op)
    return rows
