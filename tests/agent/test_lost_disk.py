"""A state directory whose disk became read-only, or went away, under a running agent."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from provisioner.errors import AgentError


@pytest.fixture
def disk(bench, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place]
    if subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("cannot mount here")
    bench.state_dir = place / "state"
    yield place
    subprocess.run(["mount", "-o", "remount,rw", place], check=True)
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_read_only_disk_still_shows_jobs_and_says_why_none_can_start(
    bench, disk, shell, finished, until
):
    client = bench.connect()
    client.submit(shell("job-old", "echo hello"))
    finished(client, "job-old")
    read_only = ["mount", "-o", "remount,ro", disk]
    until(lambda: subprocess.run(read_only, capture_output=True).returncode == 0, "nobody writes")
    for each in (client, bench.connect()):
        assert [record.state for record in each.jobs()] == ["succeeded"]
        assert each.read_log("job-old", 0).data == b"hello\n"
        with pytest.raises(AgentError, match=r"mounted read-only.*dmesg") as caught:
            each.submit(shell("job-new", "true"))
        assert caught.value.code == "io-error"
        with pytest.raises(AgentError, match="mounted read-only"):
            each.remove("job-old")


def test_a_directory_that_went_away_is_an_error_and_comes_back(bench, shell, finished):
    client = bench.connect()
    client.submit(shell("job-old", "true"))
    finished(client, "job-old")
    away = bench.state_dir.with_name("away")
    bench.state_dir.rename(away)
    with pytest.raises(AgentError, match="No such file or directory") as caught:
        client.jobs()
    assert caught.value.code == "io-error"
    away.rename(bench.state_dir)
    assert [record.job_id for record in client.jobs()] == ["job-old"]
    shutil.rmtree(bench.state_dir / "jobs" / "job-old")
    assert client.jobs() == ()
