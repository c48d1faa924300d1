"""Which host and GPUs ``train`` takes, how it starts there, and how the choice can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_program import LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

Shell = Callable[[str], LabHostShell]

RANKS = """\
import os, pathlib, signal, sys, time
rank = int(os.environ["LOCAL_RANK"])
def save(*_):
    pathlib.Path(os.environ["RIGUP_OUTPUT_DIR"], f"rank{rank}").write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print(f"rank {rank} of {os.environ['WORLD_SIZE']} has {os.environ['NVIDIA_VISIBLE_DEVICES']}")
sys.stdout.flush()
if "fail" in sys.argv and rank == 1:
    raise ValueError("bad batch of rank 1")
time.sleep(600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "ranks.py").write_text(RANKS)
    (tmp_path / "sleep.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    (tmp_path / "hello.py").write_text("print('hello')\n")
    (tmp_path / "uses_torch.py").write_text("import torch\n")
    return tmp_path


@pytest.fixture
def ready(with_container: Rigup) -> Rigup:
    """Two provisioned hosts; lab01 has the image."""
    return with_container


def described(rigup: Rigup, job: str) -> dict[str, Any]:
    found: dict[str, Any] = rigup.ok("describe", job, "--json").json["job"]
    return found


def test_a_dry_run_shows_everything_and_sends_nothing(ready: Rigup, project: Path) -> None:
    before = ready.ok("jobs", "--json").json
    words = ("train", "--script", "ranks.py", "--gpus", "all", "--dry-run")
    shown = ready.ok(*words, cwd=project)
    for text in ("lab01", "container", "rigup/pytorch-cpu", "--nproc-per-node=2", "ranks.py"):
        assert text in shown.out
    told = ready.ok(*words, "--json", cwd=project).json
    assert (told["host"], told["gpus"], told["runtime"]) == ("lab01", "2", "container")
    assert ready.ok("jobs", "--json").json == before


def test_two_gpus_two_ranks_and_a_stop_saves_both(ready: Rigup, project: Path) -> None:
    words = ("train", "--script", "ranks.py", "--gpus", "2")
    job = ready.ok(*words, cwd=project).out.strip()

    def both() -> bool:
        log = ready.ok("logs", job).out
        return "rank 0 of 2" in log and "rank 1 of 2" in log

    wait_for(both, "both ranks")
    assert described(ready, job)["gpu_ids"] == [0, 1]
    assert "stopped" in ready.ok("stop", job, "--grace", "30").out
    ready.ok("pull", job, "--to", str(project / "out"))
    saved = sorted(path.name for path in (project / "out").iterdir() if path.suffix == "")
    assert [name for name in saved if name.startswith("rank")] == ["rank0", "rank1"]


def test_the_verdict_is_that_of_the_rank_that_failed_first(ready: Rigup, project: Path) -> None:
    words = ("train", "--script", "ranks.py", "--gpus", "2", "--follow", "--", "fail")
    done = ready(*words, cwd=project, timeout=180)
    assert done.code == 1
    verdict = described(ready, done.out.split()[0])["verdict"]
    assert verdict["cause"] == "exit-code"
    assert verdict["evidence"] == "rank 1 failed first: ValueError: bad batch of rank 1"


def test_exact_gpus(ready: Rigup, project: Path) -> None:
    words = ("train", "--script", "sleep.py", "--host", "lab01")
    job = ready.ok(*words, "--gpus", "1,", cwd=project).out.strip()
    try:
        wait_for(lambda: described(ready, job)["state"] == "running", "the job")
        assert described(ready, job)["gpu_ids"] == [1]
        refused = ready(*words, "--gpus", "7,", cwd=project)
        assert (refused.code, "GPU 7" in refused.err) == (2, True)
    finally:
        ready.ok("stop", job, "--grace", "0")


def test_all_busy_means_the_shortest_queue(ready: Rigup, project: Path) -> None:
    words = ("train", "--script", "sleep.py", "--runtime", "process", "--gpus", "2")
    jobs = [
        ready.ok(*words, "--host", host, cwd=project).out.strip() for host in ("lab01", "lab02")
    ]
    jobs.append(ready.ok(*words, "--host", "lab01", cwd=project).out.strip())
    try:
        for job in jobs[:2]:
            wait_for(lambda job=job: described(ready, job)["state"] == "running", "the job")
        queued = ready.ok(*words, cwd=project)
        jobs.append(queued.out.strip())
        assert (
            "lab02: no host has 2 free; here 0 of 2 GPUs are, and 1 job is ahead of it"
            in queued.err
        )
    finally:
        for job in reversed(jobs):
            ready.ok("stop", job, "--grace", "0")


def test_no_torch_in_the_hosts_python(ready: Rigup, project: Path) -> None:
    words = ("train", "--script", "uses_torch.py", "--host", "lab02", "--runtime", "process")
    refused = ready(*words, cwd=project)
    assert refused.code == 2, refused.said
    assert "torch is missing on lab02" in refused.err
    assert "--runtime container, or python: in the inventory" in refused.err


def test_no_host_reachable_and_none_with_such_gpus(
    ready: Rigup, shell: Shell, project: Path
) -> None:
    words = ("train", "--script", "hello.py")
    refused = ready(*words, "--gpu-type", "b200", cwd=project)
    assert (refused.code, "of type 'b200'" in refused.err) == (2, True)
    assert "lab01 has 2 x NVIDIA H100" in refused.err
    inventory = json.dumps(
        {"hosts": {name: {"address": "127.0.0.1", "port": 9} for name in ("one", "two")}}
    )
    (project / "down.yaml").write_text(inventory)
    refused = ready(*words, "--inventory", str(project / "down.yaml"), cwd=project)
    assert refused.code == 1, refused.said
    assert "no host can be reached" in refused.err
    assert "one: " in refused.err
    assert "two: " in refused.err


def test_an_image_that_nobody_has(ready: Rigup, project: Path) -> None:
    def name_image(data: dict[str, Any]) -> None:
        for settings in data["hosts"].values():
            settings["container"] = {"image": "registry.invalid/none:1"}

    path = ready.with_hosts(project, name_image)
    words = ("train", "--script", "hello.py", "--inventory", str(path), "--host", "lab01")
    refused = ready(*words, cwd=project, timeout=120)
    assert refused.code == 1, refused.said
    assert "cannot pull registry.invalid/none:1" in refused.err
    assert "mirrors.container_registry" in refused.err
