"""A real agent process per test: its own state directory, its own lease directory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner.agent.bundle import archive, build_bundle
from provisioner.agent.client import AgentClient
from provisioner.errors import ConnectionLost
from remote_agent.protocol.job import JobRecord, JobSpec

DEADLINE_S = 60.0
FAKE = Path(__file__).with_name("fake_pynvml.txt").read_bytes()


class SubprocessSession:
    """A Session over a child process's pipes."""

    def __init__(self, argv: list[str], errors: Path, env: dict[str, str]) -> None:
        self._errors = errors
        self._closed = threading.Event()
        with errors.open("ab") as stderr:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env
            )

    def read(self, limit: int = 65536) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read1(limit)

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise ConnectionLost("the agent process is gone") from error

    def stderr_tail(self) -> str:
        return self._errors.read_text(errors="replace")[-4096:]

    def exit_code(self) -> int | None:
        return self.process.poll()

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.terminate()
        self.process.wait(DEADLINE_S)
        if threading.current_thread() is threading.main_thread():
            self.release()

    def release(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            self.process.stdout.close()


class Bench:
    """One host's worth of agent: connect to it as often as you like."""

    def __init__(self, directory: Path, python: str) -> None:
        bundle = build_bundle()
        self.python = python
        self.state_dir = directory / "state"
        self.archive = directory / f"{bundle.digest}.pyz"
        self.archive.write_bytes(bundle.data)
        self.errors = directory / "agent.err"
        self.env = {**os.environ, "RIGUP_LEASE_DIR": str(directory / "leases")}
        self.sessions: list[SubprocessSession] = []
        self.clients: list[AgentClient] = []

    def session(self) -> SubprocessSession:
        words = ["serve", "--state-dir", str(self.state_dir)]
        session = SubprocessSession(
            [self.python, "-I", str(self.archive), *words], self.errors, self.env
        )
        self.sessions.append(session)
        return session

    def connect(self) -> AgentClient:
        client = AgentClient(self.session(), "bench")
        self.clients.append(client)
        return client

    def job_dir(self, job_id: str) -> Path:
        return self.state_dir / "jobs" / job_id

    def close(self) -> None:
        """End every job that a test left, then every connection."""
        if (self.state_dir / "jobs").is_dir():
            client = self.connect()
            for record in client.jobs():
                if not record.is_final:
                    client.stop(record.job_id, grace_s=0.0)
        for client in self.clients:
            client.close()
        for session in self.sessions:
            session.close()
            session.release()


def pythons() -> list[str]:
    """The interpreter of the tests, and the oldest supported one where it is installed."""
    found = [sys.executable]
    candidates = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python3"), shutil.which("python3.8")]
    for candidate in filter(None, candidates):
        command = [str(candidate), "-c", "import sys; print(sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.strip() == "(3, 8)":
            return [*found, str(candidate)]
    return found


@pytest.fixture
def python() -> str:
    return sys.executable


@pytest.fixture
def bench(tmp_path: Path, python: str) -> Iterator[Bench]:
    made = Bench(tmp_path, python)
    yield made
    made.close()


@pytest.fixture
def agent(bench: Bench) -> AgentClient:
    return bench.connect()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for something to become true, looking often and giving up late."""

    def wait(condition: Callable[[], object], what: str = "condition") -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"never came true: {what}"
            time.sleep(0.01)

    return wait


@pytest.fixture
def finished() -> Callable[[AgentClient, str], JobRecord]:
    def wait(client: AgentClient, job_id: str) -> JobRecord:
        offset = 0
        while True:
            chunk = client.read_log(job_id, offset, wait_s=DEADLINE_S)
            offset = chunk.next_offset
            if chunk.is_last:
                return chunk.record

    return wait


@pytest.fixture
def shell() -> Callable[..., JobSpec]:
    """A job spec that runs a shell script."""

    def make(job_id: str, script: str, **others: object) -> JobSpec:
        return JobSpec(job_id, job_id, ("sh", "-c", script), **others)  # type: ignore[arg-type]

    return make


class FakeNvml:
    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, **settings: object) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(settings))
        temporary.replace(self._path)


@pytest.fixture
def nvml(bench, tmp_path) -> FakeNvml:
    """The bench's archive with a simulated pynvml in place of the real one."""
    with zipfile.ZipFile(io.BytesIO(build_bundle().data)) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    bench.archive.write_bytes(archive({**files, "pynvml.py": FAKE}))
    bench.env["FAKE_NVML"] = str(tmp_path / "nvml.json")
    fake = FakeNvml(tmp_path / "nvml.json")
    fake.set(gpus=2)
    return fake
