"""``train`` with nothing else typed, on hosts as a new user has them.

Each test goes on where the one before it ended.
"""

from __future__ import annotations

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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "hello.py").write_text("print('hello')\n")
    return tmp_path


def described(rigup: Rigup, job: str) -> dict[str, Any]:
    found: dict[str, Any] = rigup.ok("describe", job, "--json").json["job"]
    return found


def remove_images(host: LabHostShell) -> None:
    host.run("docker image rm --force $(docker image ls -q) >/dev/null 2>&1 || true")


def test_a_host_that_was_never_provisioned_says_so(
    spare: Rigup, spare_shell: Shell, tmp_path: Path
) -> None:
    for name in ("lab01", "lab02"):
        strip(spare_shell(name))
    refused = spare("train", "--script", "finetune_llama.py", cwd=tmp_path)
    assert refused.code == 3, refused.said
    assert "never provisioned" in refused.err
    assert "provision --host lab01,lab02" in refused.err


def test_nothing_else_typed(spare: Rigup, tmp_path: Path) -> None:
    spare.ok("provision", "--all", timeout=1800)
    words = ("train", "--script", "finetune_llama.py", "--follow")
    done = spare.ok(*words, "--", "--max_steps", "8", cwd=tmp_path, timeout=1800)
    assert "lab01: 2 of 2 GPUs free; its image must come first" in done.err
    assert "is sent from here to lab01" in done.err
    assert "step 8/8" in done.out
    job = described(spare, done.out.split()[0])
    assert (job["state"], job["spec"]["runtime"]) == ("succeeded", "container")
    assert len(job["gpu_ids"]) == 1
    assert len(job["spec"]["snapshot"]) == 64


def test_the_second_time_the_image_is_there(spare: Rigup, tmp_path: Path) -> None:
    words = ("train", "--script", "finetune_llama.py", "--follow", "--", "--max_steps", "2")
    done = spare.ok(*words, cwd=tmp_path, timeout=300)
    assert "lab01: 2 of 2 GPUs free; its image is there" in done.err
    assert "sent from here" not in done.err


def test_while_the_image_travels_everybody_sees_it(
    spare: Rigup, spare_shell: Shell, project: Path
) -> None:
    """And a second job, which needs no image, goes first."""
    host = spare_shell("lab01")
    remove_images(host)
    words = ["train", "--script", "hello.py", "--host", "lab01"]
    sender = subprocess.Popen(
        [*PROGRAM, *words], env=spare.env(), cwd=project, stdout=subprocess.PIPE, text=True
    )
    try:

        def seen() -> bool:
            table = spare.ok("jobs", "--host", "lab01").out
            return "receiving " in table and " MiB" in table

        wait_for(seen, "the image in the jobs table", seconds=120)
        [waiting] = [
            record
            for record in spare.ok("jobs", "--host", "lab01", "--json").json[0]["result"]
            if record["state"] == "queued"
        ]
        text = spare.ok("describe", waiting["spec"]["job_id"]).out
        assert "queued (receiving " in text
        done = spare.ok(
            *words, "--runtime", "process", "--gpus", "2", "--follow", cwd=project, timeout=60
        )
        assert done.out.splitlines()[1] == "hello", "GPUs are not held for an image"
        out, _ = sender.communicate(timeout=600)
        assert out.strip() == waiting["spec"]["job_id"]
    finally:
        sender.kill()
    spare.ok("logs", out.strip(), "--follow", timeout=120)
    assert described(spare, out.strip())["state"] == "succeeded"


def test_a_sender_that_is_stopped_leaves_no_job(
    spare: Rigup, spare_shell: Shell, project: Path
) -> None:
    remove_images(spare_shell("lab01"))
    before = spare.ok("jobs", "--host", "lab01", "--json").json
    words = ("train", "--script", "hello.py", "--host", "lab01")
    sender = subprocess.Popen(
        ["env", "--default-signal=INT", *PROGRAM, *words],
        env=spare.env(),
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
    )

    def receiving() -> bool:
        return "receiving " in spare.ok("jobs", "--host", "lab01").out

    wait_for(receiving, "the image on its way", seconds=120)
    sender.send_signal(signal.SIGINT)
    _, err = sender.communicate(timeout=60)
    assert "was withdrawn" in err
    assert len(spare.ok("jobs", "--host", "lab01", "--json").json[0]["result"]) == len(
        before[0]["result"]
    )


def test_a_disk_that_is_too_small_is_seen_before_anything_moves(
    spare: Rigup, spare_shell: Shell, project: Path
) -> None:
    host = spare_shell("lab01")
    remove_images(host)
    host.run(
        "systemctl stop docker.socket docker; mkdir -p /var/lib/docker; "
        "mount -t tmpfs -o size=300m tmpfs /var/lib/docker; systemctl start docker"
    )
    try:
        words = ("train", "--script", "hello.py", "--host", "lab01")
        refused = spare(*words, cwd=project)
        assert refused.code == 1, refused.said
        assert "free where Docker keeps images" in refused.err
        assert "docker system prune" in refused.err
        assert "sending" not in refused.err
        either = spare("train", "--script", "hello.py", "--dry-run", cwd=project)
        assert "trying another host" in either.err
    finally:
        host.run("systemctl stop docker.socket docker; umount /var/lib/docker")
        host.run("systemctl start docker")
