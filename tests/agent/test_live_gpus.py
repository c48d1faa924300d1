"""GPU samples and leases through a real agent whose NVML is SIMULATED."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from remote_agent.processes import find_dispatchers
from remote_agent.protocol.job import RUNNING


def test_figures_and_gaps(agent_with_gpus):
    sample = agent_with_gpus.sample()
    assert sample.driver_version == "580.0-SIMULATED"
    assert sample.gpu_error is None
    gpu = sample.gpus[1]
    assert (gpu.index, gpu.uuid, gpu.simulated) == (1, "GPU-simulated-1", True)
    assert (gpu.utilization, gpu.power, gpu.memory_total) == (42, 350.5, 80 << 30)
    assert (gpu.temperature, gpu.fan, gpu.mig_enabled, gpu.pstate) == (None, None, None, None)


@pytest.fixture
def agent_with_gpus(nvml, bench):
    return bench.connect()


@pytest.mark.parametrize(
    ("number", "said"), [(9, "not loaded"), (12, "libnvidia-ml"), (18, "reboot"), (7, "NVML error")]
)
def test_nvml_errors_are_readable(nvml, agent_with_gpus, until, number, said):
    nvml.set(gpus=2, fail=number)
    sample = agent_with_gpus.sample()
    assert said in sample.gpu_error
    assert sample.host.memory_total
    nvml.set(gpus=1)
    until(lambda: len(agent_with_gpus.sample().gpus) == 1, "it recovers by itself")


def test_jobs_get_their_own_gpus_and_wait_for_free_ones(agent_with_gpus, bench, shell, until):
    agent = agent_with_gpus
    show = (
        'echo "$RIGUP_GPUS|$CUDA_VISIBLE_DEVICES"; while [ ! -e outputs/go ]; do sleep 0.02; done'
    )
    for job_id in ("job-a", "job-b", "job-c"):
        agent.submit(shell(job_id, show, gpus=1))
    until(lambda: agent.job("job-b").state == RUNNING)
    assert agent.job("job-a").gpu_ids == (0,)
    assert agent.job("job-b").gpu_ids == (1,)
    told = json.loads((bench.job_dir("job-b") / "state.json").read_text())
    assert (told["gpu_uuids"], told["gpu_pci"]) == (["GPU-simulated-1"], ["0000:06:00"])
    assert agent.job("job-c").state == "queued"
    assert [gpu.job_id for gpu in agent.sample().gpus] == ["job-a", "job-b"]
    until(lambda: agent.read_log("job-b", 0).data)
    assert agent.read_log("job-b", 0).data == b"1|GPU-simulated-1\n"
    agent.stop("job-a", grace_s=0)
    until(lambda: agent.job("job-c").state == RUNNING)
    assert agent.job("job-c").gpu_ids == (0,)


def test_a_job_keeps_its_gpus_when_its_supervisor_is_killed(agent_with_gpus, bench, shell, until):
    agent = agent_with_gpus
    agent.submit(shell("job-a", "sleep 1000", gpus=2))
    until(lambda: agent.job("job-a").state == RUNNING)
    state = bench.job_dir("job-a") / "state.json"
    before = json.loads(state.read_text())["supervisor"]["pid"]
    os.kill(before, 9)
    until(lambda: agent.jobs() and json.loads(state.read_text())["supervisor"]["pid"] != before)
    agent.submit(shell("job-b", "true", gpus=1))
    until(lambda: (bench.state_dir / "dispatcher.err").exists())
    assert agent.read_log("job-b", 0, wait_s=1.5).record.state == "queued"
    agent.stop("job-a", grace_s=0)
    until(lambda: agent.job("job-b").state == "succeeded")


def test_foreign_processes_are_shown_and_respected(nvml, agent_with_gpus, shell, until):
    nvml.set(gpus=2, busy={"0": os.getpid()})
    gpu = agent_with_gpus.sample().gpus[0]
    assert gpu.processes[0].pid == os.getpid()
    assert gpu.processes[0].user
    assert gpu.processes[0].job_id is None
    agent_with_gpus.submit(shell("job-a", "true", gpus=1))
    until(lambda: agent_with_gpus.job("job-a").is_final)
    assert agent_with_gpus.job("job-a").gpu_ids == (1,)


def test_a_stopped_queue_leaves_no_dispatcher(agent_with_gpus, bench, shell, until):
    agent = agent_with_gpus
    agent.submit(shell("job-a", "sleep 1000", gpus=2))
    agent.submit(shell("job-b", "true", gpus=2))
    until(lambda: agent.job("job-a").state == RUNNING)
    assert agent.stop("job-b").verdict.evidence == "stopped before it started"

    def dispatchers() -> list[Path]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"dispatch" in words and str(bench.state_dir).encode() in words:
                found.append(path)
        return found

    until(lambda: not dispatchers())


def processes_with(*words: bytes) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            told = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if set(words) <= set(told):
            found.append(int(path.parent.name))
    return found


def test_the_next_job_starts_also_where_its_ready_supervisor_was_killed(
    agent_with_gpus, bench, shell, until
):
    agent = agent_with_gpus
    agent.submit(shell("job-a", "sleep 1000", gpus=2))
    until(lambda: agent.job("job-a").state == RUNNING)
    agent.submit(shell("job-b", 'echo "$RIGUP_GPUS"', gpus=2))
    ready = (b"--standby", b"job-b", str(bench.state_dir).encode())
    until(lambda: processes_with(*ready), "it is there before its turn")
    os.kill(processes_with(*ready)[0], 9)
    agent.stop("job-a", grace_s=0)
    until(lambda: agent.job("job-b").is_final)
    assert agent.read_log("job-b", 0).data == b"0,1\n"


def test_a_ready_supervisor_goes_with_its_job(agent_with_gpus, bench, shell, until):
    agent = agent_with_gpus
    agent.submit(shell("job-a", "sleep 1000", gpus=2))
    until(lambda: agent.job("job-a").state == RUNNING)
    agent.submit(shell("job-b", "true", gpus=2))
    until(lambda: processes_with(b"--standby", b"job-b"), "it is there before its turn")
    agent.stop("job-b")
    until(lambda: not processes_with(b"--standby", b"job-b"))
    assert agent.job("job-a").state == RUNNING


def test_a_job_gets_exactly_the_gpus_that_it_names(agent_with_gpus, shell, until, finished):
    agent = agent_with_gpus
    agent.submit(shell("job-a", "sleep 600", gpus=1, gpu_indices=(1,)))
    until(lambda: agent.job("job-a").state == RUNNING)
    assert agent.job("job-a").gpu_ids == (1,)
    agent.submit(shell("job-b", 'echo "$RIGUP_GPUS"', gpus=2, gpu_indices=(1, 0)))
    until(lambda: "GPU 1: leased to job-a" in agent.job("job-b").waiting_for)
    agent.submit(shell("job-c", "true", gpus=1, gpu_indices=(5,)))
    agent.stop("job-a", grace_s=0)
    assert finished(agent, "job-b").gpu_ids == (1, 0)
    assert agent.read_log("job-b", 0).data == b"1,0\n"
    verdict = finished(agent, "job-c").verdict
    assert verdict.evidence == "it asks for GPU 5 and the host has 0, 1"


def test_a_dispatcher_of_another_version_gets_no_job_that_it_may_not_understand(
    agent_with_gpus, bench, shell, until
):
    agent_with_gpus.submit(shell("job-a", "sleep 600", gpus=2))
    agent_with_gpus.submit(shell("job-b", "sleep 600", gpus=2))
    until(lambda: agent_with_gpus.job("job-a").state == RUNNING)
    root, older = str(bench.state_dir), str(bench.archive)
    until(lambda: find_dispatchers(root, "-"))
    assert find_dispatchers(root, older) == []
    bench.archive = bench.archive.with_name("f" * 64 + ".pyz")
    shutil.copy(older, bench.archive)
    agent = bench.connect()
    agent.submit(shell("job-c", "sleep 600", gpus=1, gpu_indices=(1,)))
    until(lambda: find_dispatchers(root, older), "one of the version that understands the job")
    assert find_dispatchers(root, str(bench.archive)) == []
    agent.stop("job-a", grace_s=0)
    until(lambda: agent.job("job-b").state == RUNNING)
    agent.stop("job-b", grace_s=0)
    until(lambda: agent.job("job-c").gpu_ids == (1,))
