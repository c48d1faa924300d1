"""``train`` with nothing else typed: host, image, GPUs and launcher are found on the way."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bare_host import strip
from lab_program import PROGRAM, LabHostShell, Rigup, wait_for

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


def described(rigup: Rigup, job: str) -> dict[str, Any]:
    found: dict[str, Any] = rigup.ok("describe", job, "--json").json["job"]
    return found


def remove_images(host: LabHostShell) -> None:
    host.run("docker image rm --force $(docker image ls -q) >/dev/null 2>&1 || true")


class TestOnFreshHosts:
    """Hosts in the order of a new user's first hour."""

    @pytest.fixture(scope="class")
    def fresh(self, spare: Rigup) -> Rigup:
        return spare

    def test_a_host_that_was_never_provisioned_says_so(
        self, fresh: Rigup, spare_shell: Shell, tmp_path: Path
    ) -> None:
        for name in ("lab01", "lab02"):
            strip(spare_shell(name))
        refused = fresh("train", "--script", "finetune_llama.py", cwd=tmp_path)
        assert refused.code == 3, refused.said
        assert "never provisioned" in refused.err
        assert "provision --host lab01,lab02" in refused.err

    def test_nothing_else_typed(self, fresh: Rigup, tmp_path: Path) -> None:
        fresh.ok("provision", "--all", timeout=1800)
        words = ("train", "--script", "finetune_llama.py", "--follow")
        done = fresh.ok(*words, "--", "--max_steps", "8", cwd=tmp_path, timeout=1800)
        assert "lab01: 2 of 2 GPUs free; its image must come first" in done.err
        assert "is sent from here to lab01" in done.err
        assert "step 8/8" in done.out
        job = described(fresh, done.out.split()[0])
        assert (job["state"], job["spec"]["runtime"]) == ("succeeded", "container")
        assert len(job["gpu_ids"]) == 1
        assert len(job["spec"]["snapshot"]) == 64

    def test_the_second_time_the_image_is_there(self, fresh: Rigup, tmp_path: Path) -> None:
        words = ("train", "--script", "finetune_llama.py", "--follow", "--", "--max_steps", "2")
        done = fresh.ok(*words, cwd=tmp_path, timeout=300)
        assert "lab01: 2 of 2 GPUs free; its image is there" in done.err
        assert "sent from here" not in done.err

    def test_while_the_image_travels_everybody_sees_it(
        self, fresh: Rigup, spare_shell: Shell, project: Path
    ) -> None:
        """And a second job, which needs no image, goes first."""
        host = spare_shell("lab01")
        remove_images(host)
        words = ["train", "--script", "hello.py", "--host", "lab01"]
        sender = subprocess.Popen(
            [*PROGRAM, *words], env=fresh.env(), cwd=project, stdout=subprocess.PIPE, text=True
        )
        try:

            def seen() -> bool:
                table = fresh.ok("jobs", "--host", "lab01").out
                return "receiving " in table and " MiB" in table

            wait_for(seen, "the image in the jobs table", seconds=120)
            [waiting] = [
                record
                for record in fresh.ok("jobs", "--host", "lab01", "--json").json[0]["result"]
                if record["state"] == "queued"
            ]
            text = fresh.ok("describe", waiting["spec"]["job_id"]).out
            assert "queued (receiving " in text
            done = fresh.ok(
                *words, "--runtime", "process", "--gpus", "2", "--follow", cwd=project, timeout=60
            )
            assert done.out.splitlines()[1] == "hello", "GPUs are not held for an image"
            out, _ = sender.communicate(timeout=600)
            assert out.strip() == waiting["spec"]["job_id"]
        finally:
            sender.kill()
        fresh.ok("logs", out.strip(), "--follow", timeout=120)
        assert described(fresh, out.strip())["state"] == "succeeded"

    def test_a_sender_that_is_stopped_leaves_no_job(
        self, fresh: Rigup, spare_shell: Shell, project: Path
    ) -> None:
        remove_images(spare_shell("lab01"))
        before = fresh.ok("jobs", "--host", "lab01", "--json").json
        sender = subprocess.Popen(
            [*PROGRAM, "train", "--script", "hello.py", "--host", "lab01"],
            env=fresh.env(),
            cwd=project,
            stderr=subprocess.PIPE,
            text=True,
        )

        def receiving() -> bool:
            return "receiving " in fresh.ok("jobs", "--host", "lab01").out

        wait_for(receiving, "the image on its way", seconds=120)
        sender.send_signal(signal.SIGINT)
        _, err = sender.communicate(timeout=60)
        assert "was withdrawn" in err
        assert len(fresh.ok("jobs", "--host", "lab01", "--json").json[0]["result"]) == len(
            before[0]["result"]
        )

    def test_a_disk_that_is_too_small_is_seen_before_anything_moves(
        self, fresh: Rigup, spare_shell: Shell, project: Path
    ) -> None:
        host = spare_shell("lab01")
        remove_images(host)
        host.run(
            "systemctl stop docker.socket docker; mkdir -p /var/lib/docker; "
            "mount -t tmpfs -o size=300m tmpfs /var/lib/docker; systemctl start docker"
        )
        try:
            words = ("train", "--script", "hello.py", "--host", "lab01")
            refused = fresh(*words, cwd=project)
            assert refused.code == 1, refused.said
            assert "free where Docker keeps images" in refused.err
            assert "docker system prune" in refused.err
            assert "sending" not in refused.err
            either = fresh("train", "--script", "hello.py", "--dry-run", cwd=project)
            assert "trying lab02" in either.err
        finally:
            host.run("systemctl stop docker.socket docker; umount /var/lib/docker")
            host.run("systemctl start docker")


class TestOnProvisionedHosts:
    @pytest.fixture(scope="class")
    def ready(self, with_container: Rigup) -> Rigup:
        """lab01 has the image."""
        return with_container

    def test_a_dry_run_shows_everything_and_sends_nothing(
        self, ready: Rigup, project: Path
    ) -> None:
        before = ready.ok("jobs", "--json").json
        words = ("train", "--script", "ranks.py", "--gpus", "all", "--dry-run")
        shown = ready.ok(*words, cwd=project)
        for text in ("lab01", "container", "rigup/pytorch-cpu", "--nproc-per-node=2", "ranks.py"):
            assert text in shown.out
        told = ready.ok(*words, "--json", cwd=project).json
        assert (told["host"], told["gpus"], told["runtime"]) == ("lab01", "2", "container")
        assert ready.ok("jobs", "--json").json == before

    def test_two_gpus_two_ranks_and_a_stop_saves_both(self, ready: Rigup, project: Path) -> None:
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

    def test_the_verdict_is_that_of_the_rank_that_failed_first(
        self, ready: Rigup, project: Path
    ) -> None:
        words = ("train", "--script", "ranks.py", "--gpus", "2", "--follow", "--", "fail")
        done = ready(*words, cwd=project, timeout=180)
        assert done.code == 1
        verdict = described(ready, done.out.split()[0])["verdict"]
        assert verdict["cause"] == "exit-code"
        assert verdict["evidence"] == "rank 1 failed first: ValueError: bad batch of rank 1"

    def test_exact_gpus(self, ready: Rigup, project: Path) -> None:
        words = ("train", "--script", "sleep.py", "--host", "lab01")
        job = ready.ok(*words, "--gpus", "1,", cwd=project).out.strip()
        try:
            wait_for(lambda: described(ready, job)["state"] == "running", "the job")
            assert described(ready, job)["gpu_ids"] == [1]
            refused = ready(*words, "--gpus", "7,", cwd=project)
            assert (refused.code, "GPU 7" in refused.err) == (2, True)
        finally:
            ready.ok("stop", job, "--grace", "0")

    def test_all_busy_means_the_shortest_queue(self, ready: Rigup, project: Path) -> None:
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
            assert "lab02: all are busy; on lab02 1 job is ahead of it" in queued.err
        finally:
            for job in reversed(jobs):
                ready.ok("stop", job, "--grace", "0")

    def test_no_torch_in_the_hosts_python(self, ready: Rigup, project: Path) -> None:
        words = ("train", "--script", "uses_torch.py", "--host", "lab02", "--runtime", "process")
        refused = ready(*words, cwd=project)
        assert refused.code == 2, refused.said
        assert "torch is missing on lab02" in refused.err
        assert "--runtime container, or python: in the inventory" in refused.err

    def test_no_host_reachable_and_none_with_such_gpus(
        self, ready: Rigup, shell: Shell, project: Path
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

    def test_an_image_that_nobody_has(self, ready: Rigup, project: Path) -> None:
        def name_image(data: dict[str, Any]) -> None:
            for settings in data["hosts"].values():
                settings["container"] = {"image": "registry.invalid/none:1"}

        path = ready.with_hosts(project, name_image)
        words = ("train", "--script", "hello.py", "--inventory", str(path), "--host", "lab01")
        refused = ready(*words, cwd=project, timeout=120)
        assert refused.code == 1, refused.said
        assert "cannot pull registry.invalid/none:1" in refused.err
        assert "mirrors.container_registry" in refused.err
