"""Pulling from a real agent while real programs write."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner.agent.patient import PatientAgent
from provisioner.pull import Pulled, pull

SIZE = 32 << 20
JOB = "job-pull"


def checkpoint(version: int) -> bytes:
    """Each block names its version, so a mixture shows."""
    return (version.to_bytes(8, "big") * 512) * (SIZE // 4096)


@contextmanager
def writer(write_version: object) -> Iterator[None]:
    """Writes one version after another until the block ends."""
    end = threading.Event()

    def run() -> None:
        version = 1
        while not end.is_set():
            write_version(version)  # type: ignore[operator]
            version += 1
            end.wait(0.05)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.fixture
def outputs(agent, bench, shell, finished) -> Path:  # type: ignore[no-untyped-def]
    agent.submit(shell(JOB, "true"))
    finished(agent, JOB)
    path: Path = bench.job_dir(JOB) / "outputs"
    return path


@pytest.fixture
def bring(bench, tmp_path):  # type: ignore[no-untyped-def]
    def run(name: str) -> tuple[Pulled, Path]:
        target = tmp_path / name
        with PatientAgent(bench.connect, attempts=3) as patient:
            return pull(patient, JOB, target, lambda text: None), target

    return run


def versions(data: bytes) -> set[bytes]:
    return {data[place : place + 8] for place in range(0, len(data), 4096)}


@pytest.mark.parametrize("how", ["replaced", "in place"])
def test_no_pull_mixes_versions_of_a_checkpoint(outputs: Path, bring, how: str) -> None:  # type: ignore[no-untyped-def]
    model = outputs / "model.bin"
    model.write_bytes(checkpoint(0))

    def write(version: int) -> None:
        if how == "in place":
            with model.open("r+b") as file:
                file.write(checkpoint(version))
            return
        beside = outputs / ".model.tmp"
        beside.write_bytes(checkpoint(version))
        os.replace(beside, model)

    for turn in range(4):
        with writer(write):
            pulled, target = bring(f"turn-{turn}")
        if (target / "model.bin").exists():
            assert len(versions((target / "model.bin").read_bytes())) == 1
        else:
            assert "model.bin" in [path for path, _ in pulled.left_out]
    pulled, target = bring("quiet")
    assert len(versions((target / "model.bin").read_bytes())) == 1


def test_what_arrives_is_what_lies_there(outputs: Path, bring) -> None:  # type: ignore[no-untyped-def]
    data = os.urandom(5 << 20)
    (outputs / "a").write_bytes(data)
    (outputs / "latest").symlink_to("a")
    with (outputs / "sparse").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"end")
    os.mkfifo(outputs / "fifo")
    pulled, target = bring("first")
    assert hashlib.sha256((target / "a").read_bytes()).digest() == hashlib.sha256(data).digest()
    assert os.readlink(target / "latest") == "a"
    assert (target / "sparse").stat().st_size == (1 << 30) + 3
    assert (target / "sparse").stat().st_blocks * 512 < 64 << 20
    assert [path for path, _ in pulled.left_out] == ["fifo"]


def test_a_pull_goes_on_whenever_the_agent_is_killed(outputs: Path, bench, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = os.urandom(SIZE)
    (outputs / "model.bin").write_bytes(data)
    breaks: list[str] = []

    def connect():  # type: ignore[no-untyped-def]
        client = bench.connect()
        process, reads, read = bench.sessions[-1].process, itertools.count(), client.read_output

        def read_some(*words):  # type: ignore[no-untyped-def]
            if next(reads) == 8:
                process.kill()
            return read(*words)

        client.read_output = read_some
        return client

    patient = PatientAgent(
        connect,
        attempts=3,
        on_break=lambda error, pause: breaks.append(error.message),
        sleep=lambda pause: None,
    )
    with patient:
        pulled = pull(patient, JOB, tmp_path / "target", lambda text: None)
    assert pulled.left_out == []
    assert (tmp_path / "target/model.bin").read_bytes() == data
    assert len(breaks) >= 3
