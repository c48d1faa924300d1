"""How well the queue keeps GPUs busy, and what a waiting job costs: on this machine, with GPUs that
are SIMULATED (no figure here says anything about a card).

    python -m bench.jobs_queue [--jobs 40] [--gpus 2] [--seconds 1] [--waiting 1] [--wait 20]

Prints the time for all jobs beside the ideal (every GPU always busy), and the processor time of the
dispatcher while jobs wait for a GPU that is leased.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from provisioner.agent.bundle import archive, build_bundle
from provisioner.agent.client import AgentClient
from provisioner.transport.local import ProcessSession
from remote_agent.protocol.job import JobSpec

FAKE_NVML = Path(__file__).parents[1] / "tests/agent/fake_pynvml.txt"
POLL_S = 0.1
SETTLE_S = 3.0


class Host:
    """An agent with a state directory, leases and simulated GPUs of its own."""

    def __init__(self, directory: Path, gpus: int) -> None:
        self.state = directory / "state"
        self._archive = directory / "agent.pyz"
        with zipfile.ZipFile(io.BytesIO(build_bundle().data)) as bundle:
            files = {name: bundle.read(name) for name in bundle.namelist()}
        self._archive.write_bytes(archive({**files, "pynvml.py": FAKE_NVML.read_bytes()}))
        (directory / "nvml.json").write_text(json.dumps({"gpus": gpus}))
        os.environ["FAKE_NVML"] = str(directory / "nvml.json")
        os.environ["RIGUP_LEASE_DIR"] = str(directory / "leases")

    def connect(self) -> AgentClient:
        words = [sys.executable, "-I", str(self._archive), "serve", "--state-dir", str(self.state)]
        return AgentClient(ProcessSession(words), "bench")


def queue_time(client: AgentClient, jobs: int, seconds: float) -> float:
    """From the first start to the last end, by the agent's own records."""
    for number in range(jobs):
        argv = ("sleep", f"{seconds:g}")
        client.submit(JobSpec(f"bench-{number:04d}", "bench", argv, gpus=1))
    while not all(record.is_final for record in client.jobs()):
        time.sleep(POLL_S)
    records = client.jobs()
    failed = [record.job_id for record in records if record.state != "succeeded"]
    if failed:
        raise SystemExit(f"these did not succeed: {failed}")
    return max(r.ended_at or 0.0 for r in records) - min(r.started_at or 0.0 for r in records)


def waiting_cost(
    client: AgentClient, state: Path, gpus: int, waiting: int, seconds: float
) -> float:
    """The dispatcher's processor time, in percent of one core, while jobs wait."""
    client.submit(JobSpec("bench-holds", "bench", ("sleep", "1000"), gpus=gpus))
    waits = [f"bench-waits-{number:04d}" for number in range(waiting)]
    for job_id in waits:
        client.submit(JobSpec(job_id, "bench", ("true",), gpus=gpus))
    while client.job("bench-holds").state != "running":
        time.sleep(POLL_S)
    time.sleep(SETTLE_S)
    pid = dispatcher(state)
    before, began = processor_seconds(pid), time.monotonic()
    time.sleep(seconds)
    used, passed = processor_seconds(pid) - before, time.monotonic() - began
    for job_id in waits:
        client.stop(job_id, grace_s=0)
    client.stop("bench-holds", grace_s=0)
    return 100 * used / passed


def dispatcher(state: Path) -> int:
    found = subprocess.run(
        ["pgrep", "-f", f"dispatch --state-dir {state}"], capture_output=True, text=True
    )
    return int(found.stdout.split()[0])


def processor_seconds(pid: int) -> float:
    """User and system time, of it and of its helpers that have ended; see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each job sleeps")
    parser.add_argument("--waiting", type=int, default=1, help="how many jobs wait")
    parser.add_argument("--wait", type=float, default=20.0, help="seconds to watch a waiting job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rigup-bench-") as directory:
        host = Host(Path(directory), options.gpus)
        with host.connect() as client:
            took = queue_time(client, options.jobs, options.seconds)
            ideal = options.seconds * -(-options.jobs // options.gpus)
            idle_ms = 1000 * (took - ideal) * options.gpus / options.jobs
            print(
                f"{options.jobs} jobs of {options.seconds:g} s on {options.gpus} GPUs (SIMULATED): "
                f"{took:.1f} s, ideal {ideal:.1f} s; {idle_ms:.0f} ms of idle GPU for each job"
            )
            cost = waiting_cost(client, host.state, options.gpus, options.waiting, options.wait)
            print(f"the dispatcher, while {options.waiting} wait: {cost:.2f} % of a core")
            time.sleep(1.0)


if __name__ == "__main__":
    main()
