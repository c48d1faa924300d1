"""The queue: first come, first served, on GPUs that are really free."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from remote_agent import dispatcher as module
from remote_agent.dispatcher import Dispatcher
from remote_agent.files import locked
from remote_agent.image_queue import START_AGAIN_S, ImageQueue
from remote_agent.layout import Layout
from remote_agent.lease_directories import LeaseDirectories
from remote_agent.leases import Leases
from remote_agent.metrics.nvml_client import GpuReading
from remote_agent.protocol.job import FAILED, QUEUED, STARTING, STOPPED, ImagePlan, JobSpec
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
        (directory / "leases").mkdir(mode=0o700)
        self.leases = Leases(LeaseDirectories((str(directory / "leases"),), (0, os.geteuid())))
        self.reading = GpuReading(gpus(4))
        self.started, self.held, self.readings = {}, {}, 0
        self.comes_up = True
        self.waited, self.on_wait = [], lambda: False
        self.dispatcher = Dispatcher(
            self.store, self.leases, self.read, self.start, self.wait, lambda: self.now
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

    def wait(self, seconds):
        self.now += seconds
        self.waited.append(seconds)
        return self.on_wait()

    def submit(self, job_id, count, indices=(), plan=None):
        spec = JobSpec(job_id, job_id, ("true",), gpus=count, image="x:1", image_plan=plan)
        self.store.create(replace(spec, gpu_indices=indices), "boot")


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


UPGRADED = GpuReading((), error="the driver is being upgraded")


def test_trouble_of_an_earlier_job_is_not_counted_for_the_next(host):
    """A job that waits for its image keeps the dispatcher alive meanwhile."""
    host.submit("cpu-x", 0, plan=ImagePlan(sender="a@b"))
    host.dispatcher._images = ImageQueue(host.store, lambda *a: None, clock=lambda: host.now)
    host.reading = UPGRADED
    host.submit("job-a", 1)
    rounds(host)
    host.store.transition("job-a", STOPPED)
    host.now += 5000.0
    rounds(host)
    host.submit("job-b", 1)
    rounds(host)
    assert host.store.record("job-b").state == QUEUED


def test_each_job_has_the_whole_patience(host):
    host.reading = UPGRADED
    host.submit("job-a", 1)
    host.submit("job-b", 1)
    while host.store.record("job-a").state == QUEUED:
        rounds(host)
    rounds(host)
    assert host.store.record("job-b").state == QUEUED


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


def waits_for(host, job_id="job-a"):
    return host.store.record(job_id).waiting_for


def test_an_nvml_error_keeps_the_queue_and_is_told(host):
    host.reading = GpuReading(error="the driver is not loaded")
    host.submit("job-a", 1)
    assert rounds(host, 8)
    assert "not loaded" in waits_for(host)
    assert "rigup provision" in waits_for(host)
    host.reading = GpuReading(gpus(1))
    rounds(host)
    assert host.started == {"job-a": [0]}
    assert waits_for(host) == ""


def test_nvml_is_not_asked_often_while_it_is_broken(host):
    host.reading = GpuReading(error="the driver hangs")
    host.submit("job-a", 1)
    for _ in range(60):
        host.now += 1.0
        host.dispatcher.round()
    assert host.readings <= 3


def test_a_quarter_of_an_hour_of_errors_fails_the_job(host):
    host.reading = GpuReading(error="the driver is not loaded")
    host.submit("job-a", 1)
    assert rounds(host, 9)
    assert not rounds(host, 2)
    assert "not loaded" in host.store.record("job-a").verdict.evidence


def test_errors_with_a_good_answer_between_them_do_not_add_up(host):
    host.submit("job-a", 1)
    busy = GpuReading(gpus(1, processes=(GpuProcess(4711),)))
    for reading in [*[GpuReading(error="lost")] * 8, busy, *[GpuReading(error="lost")] * 8]:
        host.reading = reading
        assert rounds(host)


def test_where_no_driver_is_installed_nobody_waits_long(host):
    host.reading = GpuReading(error="no NVIDIA driver library", error_number=12)
    host.submit("job-a", 1)
    assert rounds(host)
    assert not rounds(host)


def test_an_unreadable_process_list_is_not_an_empty_one(host):
    host.reading = GpuReading(gpus(1, processes_known=False))
    host.submit("job-a", 1)
    assert rounds(host, 3)
    assert host.started == {}
    assert "does not tell its processes" in waits_for(host)


@pytest.mark.parametrize("state", [{"error": "fallen off"}, {"mig_enabled": True}])
def test_unusable_gpus_do_not_count_as_present(host, state):
    host.reading = GpuReading((*gpus(1), GpuSample(1, "GPU-1", "x", **state)))
    host.submit("job-a", 2)
    rounds(host)
    assert "2 GPUs and 1 can be used (GPU 1: " in waits_for(host)
    assert not rounds(host, 10)
    assert "at most 1" in host.store.record("job-a").verdict.hint


def test_what_a_job_waits_for_is_told(host):
    foreign = GpuSample(0, "GPU-0", "x", processes=(GpuProcess(4711, user="eve", name="python"),))
    host.reading = GpuReading((foreign, *gpus(3)[1:]))
    host.submit("job-a", 1)
    host.submit("job-b", 2)
    host.submit("job-c", 1)
    rounds(host)
    assert waits_for(host, "job-b").startswith("job-a")
    host.reading = GpuReading((foreign, *gpus(2)[1:]))
    rounds(host)
    assert waits_for(host, "job-a") == ""
    assert "python of eve (pid 4711)" in waits_for(host, "job-b")
    assert "GPU 1: leased" in waits_for(host, "job-b")
    assert waits_for(host, "job-c").startswith("job-b")
    host.store.transition("job-b", STOPPED)
    assert waits_for(host, "job-b") == ""


def test_no_lease_directory_is_a_reason_not_a_crash(host, tmp_path):
    (tmp_path / "file").write_text("")
    host.dispatcher._leases = Leases(LeaseDirectories((str(tmp_path / "file" / "below"),)))
    host.submit("job-a", 1)
    assert rounds(host)
    assert "GPU leases" in waits_for(host)


def test_gpus_that_were_leased_before_an_error_are_free_again(host, monkeypatch):
    acquire = host.leases.acquire

    def fail_later(uuid, job_id):
        if uuid == "GPU-1":
            raise OSError(errno.ENOSPC, "No space left on device")
        return acquire(uuid, job_id)

    monkeypatch.setattr(host.leases, "acquire", fail_later)
    host.submit("job-a", 2)
    rounds(host)
    assert "No space left" in waits_for(host)
    assert not host.leases.is_held("GPU-0")


def test_a_reason_that_stays_is_written_once(host):
    host.reading = GpuReading(error="the driver is not loaded")
    host.submit("job-a", 1)
    rounds(host)
    before = os.stat(host.store.layout.job("job-a").state).st_ino
    rounds(host)
    assert os.stat(host.store.layout.job("job-a").state).st_ino == before


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


def run_until(host, condition, limit=1000):
    """Let the dispatcher run by itself, on its own clock, until ``condition``."""

    class Over(Exception):
        pass

    waits = iter(range(limit))

    def on_wait():
        if condition() or next(waits, None) is None:
            raise Over
        return False

    host.on_wait = on_wait
    try:
        host.dispatcher.run()
    except Over:
        assert condition()


def test_a_freed_lease_is_used_within_a_second_of_the_clock(host):
    theirs = [host.leases.acquire(f"GPU-{number}") for number in range(4)]
    host.submit("job-a", 1)
    run_until(host, lambda: host.now > 100.0)
    os.close(theirs.pop())
    freed_at = host.now
    run_until(host, lambda: host.started)
    assert host.now - freed_at <= module.LOOK_S
    for fd in theirs:
        os.close(fd)


def test_a_call_ends_the_pause(host):
    host.submit("job-a", 4)
    rounds(host)
    host.submit("job-b", 1)
    rounds(host)

    def called():
        host.end("job-a")
        host.on_wait = lambda: False
        return True

    host.on_wait = called
    host.waited.clear()
    host.dispatcher.run()
    assert len(host.waited) == 1
    assert host.started["job-b"] == [0]


def test_waiting_for_a_lease_costs_no_look_at_the_store_or_the_driver(host, monkeypatch):
    host.submit("job-a", 4)
    rounds(host)
    host.submit("job-b", 1)
    rounds(host)
    looks, look = [], host.store.unfinished
    monkeypatch.setattr(host.store, "unfinished", lambda: looks.append(host.now) or look())
    host.readings, began = 0, host.now
    run_until(host, lambda: host.now - began >= 600.0)
    assert host.readings == 0
    assert len(looks) <= 2 * (600.0 / module.ROUND_S + 2)


def test_a_busy_gpu_is_asked_about_soon_then_ever_less_often(host):
    host.reading = GpuReading(gpus(1, processes=(GpuProcess(4711),)))
    host.submit("job-a", 1)
    run_until(host, lambda: host.now >= 2.0)
    assert host.readings >= 3
    host.readings, began = 0, host.now
    run_until(host, lambda: host.now - began >= 100.0)
    assert host.readings <= 100.0 / module.BUSY_ROUND_S + 5


def test_a_full_disk_ends_no_queue_and_no_job(host, monkeypatch):
    """No supervisor can claim its job there, which is not the job's fault."""
    host.comes_up = False
    host.submit("job-a", 1)
    monkeypatch.setattr(module, "write_problem", lambda directory: "No space left on device")
    assert rounds(host, 2 * module.MAX_ATTEMPTS)
    assert host.store.record("job-a").state == QUEUED
    monkeypatch.undo()
    host.comes_up = True
    rounds(host)
    assert host.started == {"job-a": [0]}


def test_an_error_of_the_disk_is_survived(host, monkeypatch):
    host.submit("job-a", 1)
    broken = iter([OSError(28, "No space left on device")] * 3)

    def start(*others, start=host.start):
        for error in broken:
            raise error
        start(*others)

    host.dispatcher._start = start
    run_until(host, lambda: host.started)
    assert host.store.record("job-a").state == STARTING


def test_a_start_does_not_rewrite_the_states_of_all_that_wait(host, monkeypatch):
    for number in range(30):
        host.submit(f"job-{number:02d}", 1)
    host.reading = GpuReading(gpus(1))
    rounds(host, 3)
    assert "job-01" in waits_for(host, "job-02")
    assert "ahead" in waits_for(host, "job-29")
    noted = []
    note = host.store.note_waiting
    monkeypatch.setattr(
        host.store, "note_waiting", lambda job, reason: noted.append(job) or note(job, reason)
    )
    host.end("job-00")
    rounds(host, 3)
    assert set(noted) <= {"job-02", "job-03"}


class FakeStandby:
    def __init__(self, host, job_id):
        self.host, self.job_id = host, job_id
        self.lives, self.dismissed = True, False

    def go(self, gpus, leases):
        if self.lives:
            self.host.start(None, self.job_id, gpus, leases)
            self.host.went.append(self.job_id)
        return self.lives

    def dismiss(self):
        self.dismissed = True


@pytest.fixture
def prepared(host):
    """The supervisors that were started ahead of time, in order."""
    made, host.went = [], []

    def prepare(layout, job_id):
        made.append(FakeStandby(host, job_id))
        return made[-1]

    host.dispatcher = Dispatcher(
        host.store, host.leases, host.read, host.start, host.wait, lambda: host.now, prepare
    )
    return made


def test_the_next_job_has_its_supervisor_ready(host, prepared):
    host.submit("job-a", 4)
    host.submit("job-b", 4)
    host.submit("job-c", 4)
    rounds(host, 3)
    assert [standby.job_id for standby in prepared] == ["job-b"]
    host.end("job-a")
    rounds(host, 2)
    assert host.went == ["job-b"]
    assert host.started["job-b"] == [0, 1, 2, 3]
    assert [standby.job_id for standby in prepared] == ["job-b", "job-c"]


def test_a_ready_supervisor_that_died_is_replaced(host, prepared):
    host.submit("job-a", 4)
    host.submit("job-b", 4)
    rounds(host, 2)
    prepared[0].lives = False
    host.end("job-a")
    rounds(host)
    assert host.went == []
    assert host.started["job-b"] == [0, 1, 2, 3]


def test_a_ready_supervisor_is_dismissed_with_its_job(host, prepared):
    host.submit("job-a", 4)
    host.submit("job-b", 4)
    rounds(host, 2)
    host.store.transition("job-b", STOPPED)
    rounds(host)
    assert prepared[0].dismissed


def test_none_is_ready_while_the_host_is_in_trouble(host, prepared):
    host.reading = GpuReading(error="the driver hangs")
    host.submit("job-a", 1)
    rounds(host, 3)
    assert prepared == []


def test_the_end_of_the_dispatcher_is_the_end_of_the_ready_one(host, prepared):
    host.submit("job-a", 4)
    rounds(host)
    host.submit("job-b", 4)
    run_until(host, lambda: prepared)
    assert prepared[0].dismissed


@pytest.mark.parametrize("gpus", [0, 1])
def test_no_job_starts_while_the_host_is_about_to_reboot(host, gpus):
    held = [True]
    host.dispatcher._on_hold = lambda: held[0]
    host.submit("job-a", gpus)
    assert host.dispatcher.round()
    assert waits_for(host, "job-a") == "the host is about to reboot"
    assert host.started == {}
    held[0] = False
    host.dispatcher.round()
    assert list(host.started) == ["job-a"]


def test_a_supervisor_that_gave_up_for_a_reboot_is_no_failure(host):
    """The hold came between the dispatcher's look and the supervisor's."""
    looks = [False]
    host.dispatcher._on_hold = lambda: looks.pop(0) if looks else True
    host.comes_up = False
    host.submit("job-a", 1)
    for _ in range(module.MAX_ATTEMPTS + 1):
        looks.append(False)
        host.dispatcher.round()


def test_a_hold_that_comes_while_the_driver_answers_counts(host):
    """NVML may need seconds; a job must not start after the last look before the reboot."""
    held = [False]
    host.dispatcher._on_hold = lambda: held[0]
    slow = host.read

    def read():
        held[0] = True
        return slow()

    host.dispatcher._read_gpus = read
    host.submit("job-a", 1)
    assert host.dispatcher.round()
    assert host.started == {}
    assert not host.leases.is_held("GPU-0")
    assert waits_for(host, "job-a") == "the host is about to reboot"


def test_of_many_plain_jobs_none_starts_after_the_hold(host):
    host.dispatcher._on_hold = lambda: len(host.started) > 0
    for name in ("job-a", "job-b", "job-c"):
        host.submit(name, 0)
    assert host.dispatcher.round()
    assert list(host.started) == ["job-a"]


def test_supervisors_that_do_not_claim_during_a_hold_are_no_failures(host):
    held = [False]
    host.dispatcher._on_hold = lambda: held[0]
    host.comes_up = False

    def hold():
        held[0] = True
        return False

    host.on_wait = hold
    host.submit("job-a", 0)
    for _ in range(5):
        held[0] = False
        rounds(host)
    assert host.store.record("job-a").state == QUEUED


def test_the_gpu_of_a_container_whose_supervisor_was_killed_is_not_free(host):
    own = {"GPU-0": "train-1"}
    host.dispatcher._own_gpus = lambda: own
    host.reading = GpuReading(gpus(1))
    host.submit("job-a", 1)
    rounds(host)
    assert "GPU 0: leased to train-1" in waits_for(host)
    own.clear()
    host.now += 60
    host.dispatcher.round()
    assert host.started == {"job-a": [0]}


def test_exact_gpus_are_leased_in_the_order_that_was_asked_for(host):
    host.submit("job-a", 2, (3, 1))
    rounds(host)
    assert host.started == {"job-a": [3, 1]}
    assert not host.leases.is_held("GPU-0")


def test_exact_gpus_are_leased_all_or_none_and_named_while_they_are_busy(host):
    host.submit("job-a", 1, (2,))
    rounds(host)
    host.submit("job-b", 2, (1, 2))
    rounds(host, 3)
    assert list(host.started) == ["job-a"]
    assert not host.leases.is_held("GPU-1"), "all or none"
    assert waits_for(host, "job-b").startswith("1 of its 2 GPUs (GPU 2: leased to job-a of ")
    host.end("job-a")
    rounds(host)
    assert host.started["job-b"] == [1, 2]


def test_an_exact_gpu_with_a_foreign_process_is_waited_for(host):
    busy = GpuSample(1, "GPU-1", "x", processes=(GpuProcess(4711, user="eve", name="python"),))
    host.reading = GpuReading((*gpus(1), busy))
    host.submit("job-a", 1, (1,))
    rounds(host, 2)
    assert host.started == {}
    assert waits_for(host) == "1 of its 1 GPUs (GPU 1: python of eve (pid 4711))"


def test_leases_of_other_gpus_hold_up_no_job_that_asks_for_a_free_one(host):
    host.submit("job-a", 3)
    rounds(host)
    host.submit("job-b", 1, (3,))
    rounds(host)
    assert host.started["job-b"] == [3]


def test_a_leased_exact_gpu_is_seen_without_asking_nvml(host):
    host.submit("job-a", 1)
    rounds(host)
    host.submit("job-b", 1, (0,))
    host.readings = 0
    rounds(host, 10)
    assert host.readings == 0
    assert "GPU 0: leased to job-a" in waits_for(host, "job-b")


@pytest.mark.parametrize(
    ("present", "said"), [((0, 1, 2, 3), "0 to 3"), ((0, 2), "0, 2"), ((0,), "0"), ((), "none")]
)
def test_a_gpu_that_the_host_lacks_fails_at_once(host, present, said):
    host.reading = GpuReading(tuple(GpuSample(n, f"GPU-{n}", "x") for n in present))
    host.submit("job-a", 2, (0, 5) if present else (5, 6))
    assert not rounds(host)
    verdict = host.store.record("job-a").verdict
    asked = "5" if present else "5, 6"
    assert verdict.cause == "could-not-start"
    assert verdict.evidence == f"it asks for GPU {asked} and the host has {said}"


def test_an_exact_gpu_that_is_broken_is_waited_for_and_then_given_up(host):
    host.reading = GpuReading((*gpus(1), GpuSample(1, "GPU-1", "x", error="fallen off")))
    host.submit("job-a", 1, (1,))
    assert rounds(host)
    assert "GPU 1: fallen off" in waits_for(host)
    assert not rounds(host, 10)
    assert "other GPUs" in host.store.record("job-a").verdict.hint


def test_exact_gpus_do_not_overtake(host):
    host.submit("job-a", 2)
    rounds(host)
    host.submit("job-b", 4)
    host.submit("job-c", 1, (3,))
    rounds(host, 3)
    assert list(host.started) == ["job-a"]
    assert waits_for(host, "job-c").startswith("job-b")


PULLED = ImagePlan(pull="x:1")


@pytest.fixture
def preparing(host):
    """The jobs for which a process was started that gets their image."""
    started = []
    host.dispatcher._images = ImageQueue(
        host.store, lambda layout, job_id: started.append(job_id), lambda: host.now
    )
    return started


@pytest.mark.parametrize("count", [0, 2])
def test_a_job_starts_when_its_image_is_there(host, preparing, count):
    host.submit("job-a", count, plan=PULLED)
    assert rounds(host)
    assert preparing == ["job-a"]
    assert host.started == {}
    assert waits_for(host) == "its image x:1"
    host.store.note_image_ready("job-a")
    assert not rounds(host)
    assert host.started == {"job-a": list(range(count))}


def test_a_job_without_its_image_blocks_nobody(host, preparing):
    host.submit("job-a", 4, plan=PULLED)
    host.submit("job-b", 4)
    host.submit("job-c", 1)
    rounds(host)
    assert host.started == {"job-b": [0, 1, 2, 3]}
    host.store.note_image_ready("job-a")
    rounds(host)
    assert waits_for(host, "job-c").startswith("job-a"), "in its old place again"


def test_a_job_without_its_image_gets_no_supervisor_ahead_of_time(host, prepared, preparing):
    host.dispatcher._images = ImageQueue(host.store, lambda *words: None)
    host.submit("job-a", 4)
    host.submit("job-b", 4, plan=PULLED)
    rounds(host, 2)
    assert prepared == []
    host.store.note_image_ready("job-b")
    rounds(host)
    assert [standby.job_id for standby in prepared] == ["job-b"]


def test_what_the_preparation_tells_is_left_alone(host, preparing):
    host.submit("job-a", 1, plan=PULLED)
    host.store.note_waiting("job-a", "pulling 5 of 12 layers of x:1")
    with locked(host.store.layout.job("job-a").preparer_lock):
        rounds(host, 3)
    assert waits_for(host) == "pulling 5 of 12 layers of x:1"


def test_what_a_preparation_told_that_was_killed_does_not_stand(host, preparing):
    host.submit("job-a", 1, plan=PULLED)
    rounds(host)
    host.store.note_waiting("job-a", "pulling 5 of 12 layers of x:1")
    host.dispatcher.round()
    assert waits_for(host) == "pulling 5 of 12 layers of x:1", "it may be about to take its lock"
    rounds(host)
    assert waits_for(host) == "its image x:1"


def test_a_preparation_that_was_killed_is_started_again_but_not_all_the_time(host, preparing):
    host.submit("job-a", 1, plan=PULLED)
    for _ in range(10):
        host.now += START_AGAIN_S / 2
        host.dispatcher.round()
    assert len(preparing) == 5


def test_a_preparation_that_lives_is_not_started_again(host, preparing):
    host.submit("job-a", 1, plan=PULLED)
    with locked(host.store.layout.job("job-a").preparer_lock):
        rounds(host, 5)
    assert preparing == []
    rounds(host)
    assert preparing == ["job-a"]


def test_a_preparation_that_cannot_be_started_is_told_and_holds_up_nobody(host):
    def start(layout, job_id):
        raise OSError(11, "Resource temporarily unavailable")

    host.dispatcher._images = ImageQueue(host.store, start, lambda: host.now)
    host.submit("job-a", 1, plan=PULLED)
    host.submit("job-b", 1)
    rounds(host)
    assert "temporarily unavailable" in waits_for(host)
    assert list(host.started) == ["job-b"]


def test_before_a_reboot_no_preparation_starts_and_one_that_runs_goes_on_telling(host, preparing):
    host.dispatcher._on_hold = lambda: True
    host.submit("job-a", 1, plan=PULLED)
    host.dispatcher.round()
    assert waits_for(host) == "the host is about to reboot"
    host.store.note_waiting("job-a", "pulling x:1")
    with locked(host.store.layout.job("job-a").preparer_lock):
        host.dispatcher.round()
    assert waits_for(host) == "pulling x:1"
    assert preparing == []


def test_a_job_that_was_removed_just_now_holds_up_nobody(host, preparing):
    host.submit("job-a", 1, plan=PULLED)
    record = host.store.record("job-a")
    host.store.transition("job-a", STOPPED)
    host.store.remove("job-a")
    assert host.dispatcher._images.is_prepared_now(record)
    host.dispatcher._images.prepare(record)
    assert preparing == []
