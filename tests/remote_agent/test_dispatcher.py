"""The queue: first come, first served, on GPUs that are really free."""

from __future__ import annotations

import os

import pytest

from remote_agent import dispatcher as module
from remote_agent.dispatcher import Dispatcher
from remote_agent.layout import Layout
from remote_agent.leases import Leases
from remote_agent.metrics.nvml_client import GpuReading
from remote_agent.protocol.job import FAILED, QUEUED, STARTING, STOPPED, JobSpec
from remote_agent.protocol.sample import GpuProcess, GpuSample
from remote_agent.store import JobStore


def gpus(count, **others):
    return tuple(GpuSample(n, f"GPU-{n}", "SIMULATED", **others) for n in range(count))


class Host:
    """A host whose supervisors only claim their job and keep the lease."""

    def __init__(self, directory):
        self.now = 0.0
        clock = iter(range(1000))
        self.store = JobStore(Layout.open(str(directory / "state")), lambda: float(next(clock)))
        self.leases = Leases((str(directory / "leases"),))
        self.reading = GpuReading(gpus(4))
        self.started, self.held, self.readings = {}, {}, 0
        self.comes_up = True
        self.dispatcher = Dispatcher(
            self.store, self.leases, self.read, self.start, self.sleep, lambda: self.now
        )

    def read(self):
        self.readings += 1
        return self.reading

    def start(self, layout, job_id, chosen, leases):
        if not self.comes_up:
            return
        self.store.transition(job_id, STARTING)
        self.started[job_id] = [gpu.index for gpu in chosen]
        self.held[job_id] = [os.dup(fd) for fd in leases]

    def end(self, job_id):
        for fd in self.held.pop(job_id):
            os.close(fd)

    def sleep(self, seconds):
        self.now += seconds

    def submit(self, job_id, count):
        self.store.create(JobSpec(job_id, job_id, ("true",), gpus=count), "boot")


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    yield made
    for job_id in list(made.held):
        made.end(job_id)


def rounds(host, count=1):
    for _ in range(count):
        host.now += 100.0
        more = host.dispatcher.round()
    return more


def test_jobs_get_distinct_gpus_in_order(host):
    host.submit("job-a", 1)
    host.submit("job-b", 2)
    assert rounds(host)
    assert not rounds(host)
    assert host.started == {"job-a": [0], "job-b": [1, 2]}


def test_the_first_in_line_is_not_overtaken(host):
    host.submit("job-a", 2)
    host.submit("job-b", 4)
    host.submit("job-c", 1)
    rounds(host, 5)
    assert list(host.started) == ["job-a"]
    host.end("job-a")
    rounds(host, 5)
    assert list(host.started) == ["job-a", "job-b"]
    host.end("job-b")
    rounds(host)
    assert host.started["job-c"] == [0]


def test_plain_jobs_do_not_wait_in_line(host):
    host.submit("job-a", 4)
    host.submit("job-b", 4)
    host.submit("job-c", 0)
    rounds(host, 2)
    assert list(host.started) == ["job-c", "job-a"]


def test_foreign_processes_keep_a_gpu_busy(host):
    busy = GpuSample(0, "GPU-0", "x", processes=(GpuProcess(4711),))
    host.reading = GpuReading((busy, GpuSample(1, "GPU-1", "x")))
    host.submit("job-a", 1)
    host.submit("job-b", 1)
    rounds(host, 3)
    assert host.started == {"job-a": [1]}
    assert not host.leases.is_held("GPU-0"), "a lease is not kept while waiting"


def test_the_multi_process_service_is_no_foreign_process(host):
    mps = GpuProcess(1, name="nvidia-cuda-mps")
    host.reading = GpuReading(gpus(1, processes=(mps,)))
    host.submit("job-a", 1)
    rounds(host)
    assert host.started == {"job-a": [0]}


@pytest.mark.parametrize("state", [{"error": "lost"}, {"mig_enabled": True}])
def test_broken_and_split_gpus_are_not_used(host, state):
    host.reading = GpuReading(gpus(2, **state))
    host.submit("job-a", 1)
    assert rounds(host, 2)
    assert host.started == {}


def test_another_users_lease_is_respected(host):
    theirs = host.leases.acquire("GPU-0")
    host.submit("job-a", 4)
    rounds(host, 2)
    assert host.started == {}
    assert not host.leases.is_held("GPU-3"), "all or none"
    os.close(theirs)
    rounds(host)
    assert host.started == {"job-a": [0, 1, 2, 3]}


def test_leased_gpus_are_seen_without_asking_nvml(host):
    host.submit("job-a", 4)
    rounds(host)
    host.submit("job-b", 1)
    host.readings = 0
    rounds(host, 10)
    assert host.readings == 0


def test_too_many_gpus_fail_at_once(host):
    host.submit("job-a", 5)
    assert not rounds(host)
    record = host.store.record("job-a")
    assert (record.state, record.verdict.cause) == (FAILED, "could-not-start")
    assert "5 GPUs and the host has 4" in record.verdict.evidence


def test_no_nvml_fails_with_its_reason(host):
    host.reading = GpuReading(error="the driver is not loaded")
    host.submit("job-a", 1)
    assert not rounds(host)
    assert "not loaded" in host.store.record("job-a").verdict.evidence


def test_a_supervisor_that_never_comes_up_fails_the_job(host):
    host.comes_up = False
    host.submit("job-a", 1)
    rounds(host, module.MAX_ATTEMPTS)
    assert host.store.record("job-a").state == FAILED
    assert not host.leases.is_held("GPU-0")


def test_a_job_stopped_while_waiting_leaves_the_line(host):
    host.submit("job-a", 4)
    rounds(host)
    host.submit("job-b", 4)
    host.store.transition("job-b", STOPPED)
    assert not rounds(host)
    assert host.store.record("job-b").state != QUEUED
