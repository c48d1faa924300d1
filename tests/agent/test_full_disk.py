"""A real agent whose state directory lies on a real disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from provisioner.errors import AgentError

SIZE = 8 << 20
INODES = 500


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"
        self._inodes = path / "inodes"

    def fill(self) -> None:
        """Nobody can write another byte, nor make another file where inodes cost space."""
        with open(self._filler, "ab", buffering=0) as file:
            for size in (1 << 16, 4096, 512, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def take_inodes(self) -> None:
        """No name can be given any more, where names cost inodes (tmpfs)."""
        with suppress(OSError):
            self._inodes.mkdir()
            for number in range(INODES):
                (self._inodes / str(number)).touch()

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)
        shutil.rmtree(self._inodes, ignore_errors=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "ext4":
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("needs mkfs.ext4")
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        words = ["mount", "-o", "loop", image, place]
    else:
        words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES}", "tmpfs", place]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield SmallDisk(place)
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def full(disk, bench):
    """Switches the bench to the small disk; ``close`` of the bench finds room again."""
    bench.state_dir = disk.path / "state"
    yield disk
    disk.make_room()


def waiting(gate, *then):
    return "; ".join((f"while [ ! -e {gate} ]; do sleep 0.02; done", *then))


def start(bench, until, spec):
    client = bench.connect()
    client.submit(spec)
    until(lambda: client.job(spec.job_id).state == "running")
    return client


def test_a_job_that_succeeds_on_a_full_disk_ends_at_once_and_says_so(
    full, bench, shell, until, finished, tmp_path
):
    client = start(bench, until, shell("job-ok", waiting(tmp_path / "gate", "exit 0")))
    full.fill()
    (tmp_path / "gate").touch()
    record = finished(client, "job-ok")
    assert (record.state, record.verdict.cause) == ("succeeded", "success")
    assert "may be incomplete" in record.verdict.evidence


def test_a_job_whose_last_words_the_disk_did_not_take_failed_for_it(
    full, bench, shell, until, finished, tmp_path
):
    script = waiting(tmp_path / "gate", "seq 100000", "exit 3")
    client = start(bench, until, shell("job-bad", script))
    full.fill()
    (tmp_path / "gate").touch()
    record = finished(client, "job-bad")
    assert (record.state, record.verdict.cause) == ("failed", "disk-full")
    assert record.verdict.exit_code == 3
    assert "No space left" in record.verdict.evidence


def test_without_a_reserve_the_verdict_comes_when_there_is_room(
    full, bench, shell, until, finished, tmp_path
):
    client = start(bench, until, shell("job-ok", waiting(tmp_path / "gate", "exit 5")))
    (bench.job_dir("job-ok") / "state.reserve").unlink()
    full.fill()
    (tmp_path / "gate").touch()
    until(lambda: (bench.job_dir("job-ok") / "supervisor.err").exists())
    assert client.read_log("job-ok", 0, wait_s=2.0).record.state == "running"
    full.make_room()
    record = finished(client, "job-ok")
    assert (record.state, record.verdict.cause, record.verdict.exit_code) == (
        "failed",
        "disk-full",
        5,
    )


def test_stop_works_on_a_full_disk(full, bench, shell, until):
    client = start(bench, until, shell("job-long", "sleep 1000"))
    full.fill()
    record = client.stop("job-long", grace_s=1.0)
    assert (record.state, record.verdict.cause) == ("stopped", "stopped-by-user")


def test_stop_works_where_not_even_its_request_can_be_written(full, bench, shell, until):
    client = start(bench, until, shell("job-long", "sleep 1000"))
    full.fill()
    full.take_inodes()
    record = client.stop("job-long", grace_s=1.0)
    assert record.state == "stopped"


def test_the_queue_goes_on_when_there_is_room(full, nvml, bench, shell, until, tmp_path):
    nvml.set(gpus=1)
    client = start(bench, until, shell("job-a", waiting(tmp_path / "gate"), gpus=1))
    client.submit(shell("job-b", "echo ran", gpus=1))
    until(lambda: "leased" in client.job("job-b").waiting_for)
    full.fill()
    full.take_inodes()
    (tmp_path / "gate").touch()
    until(lambda: (bench.state_dir / "dispatcher.err").exists())
    full.make_room()
    until(lambda: client.job("job-a").is_final and client.job("job-b").is_final)
    assert client.job("job-b").state == "succeeded"


def test_a_supervisor_killed_on_a_full_disk_is_replaced_and_stop_works(full, bench, shell, until):
    client = start(bench, until, shell("job-long", "sleep 1000"))
    full.fill()
    state = json.loads((bench.job_dir("job-long") / "state.json").read_text())
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    record = client.stop("job-long", grace_s=1.0)
    assert record.state == "stopped"


def test_submitting_to_a_full_disk_is_refused_and_leaves_nothing(full, bench, shell):
    client = bench.connect()
    full.fill()
    with pytest.raises(AgentError, match="No space left") as caught:
        client.submit(shell("job-new", "true"))
    assert caught.value.code == "io-error"
    assert os.listdir(bench.state_dir / "jobs") == []
