"""Who would be cut off by a reboot: jobs of all users, whatever lies where a state should be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner.facts import Output, gather
from provisioner.facts import occupants as module
from provisioner.facts.occupants import OCCUPANTS
from provisioner.transport.local import LocalTransport

ANN = 12001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")
UNKNOWN = " (its state cannot be read)"


def state(**fields: object) -> str:
    known = {"state": "running", "boot_id": _boot_id(), **fields}
    return json.dumps(known, indent=1)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Outside pytest's own directory, which each start of pytest closes to other users."""
    with tempfile.TemporaryDirectory(prefix="rigup-occupants-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ann's, closed to all others; the host's list of users knows nobody but her and us."""
    made = tmp_path / "ann"
    (made / ".rigup" / "jobs").mkdir(parents=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    getent = programs / "getent"
    root = f"root:x:0:0::{tmp_path}/nobody:/bin/sh"
    getent.write_text(f"#!/bin/sh\necho '{root}'\necho 'ann:x:{ANN}:{ANN}::{made}:/bin/sh'\n")
    getent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("SUDO_USER", raising=False)
    return made


def put(home: Path, job: str, text: str) -> Path:
    directory = home / ".rigup" / "jobs" / job
    directory.mkdir()
    file = directory / "state.json"
    file.write_text(text)
    return file


def closed(home: Path) -> None:
    subprocess.run(["chown", "-hR", str(ANN), str(home)], check=True)
    home.chmod(0o700)
    (home / ".rigup").chmod(0o700)


def found(tmp_path: Path, user: str = "ann") -> list[str]:
    """What the jobs' part of the fact's script finds with the list of users that ``home`` made."""
    script, one = module._file("jobs_of_all.sh"), module._file("jobs_of_one.sh")
    words = ["sh", "-c", script, "sh", one, "root", str(tmp_path / "own")]
    done = subprocess.run(words, capture_output=True, timeout=60, check=True)
    booted = int(time.time()) - 3600
    text = f"boot|{_boot_id()}|{booted}\n" + done.stdout.decode("utf-8", "replace")
    return [job for job in module.parse(Output(text, 0)).jobs if f" of {user}" in job]


@needs_root
def test_jobs_of_other_users_are_seen(home: Path, tmp_path: Path) -> None:
    put(home, "train-1", state())
    for number, over in enumerate(("queued", "succeeded", "failed", "stopped", "lost")):
        put(home, f"train-over-{number}", state(state=over))
    put(home, "train-old", state(boot_id="another"))
    closed(home)
    assert found(tmp_path) == ["train-1 of ann"]


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def _huge(file: Path) -> None:
    os.truncate(file, 1 << 38)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _unreadable(file: Path) -> None:
    file.chmod(0)


def _binary(file: Path) -> None:
    file.write_bytes(b"\0|\n\xff" * 100)


ODD: tuple[Callable[[Path], object], ...] = (
    *(_fifo, _endless, _huge, _directory, _unreadable, _binary),
    Path.unlink,
)


@needs_root
@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_state_may_be_a_job_and_holds_nobody_up(
    home: Path, tmp_path: Path, odd: Callable[[Path], object]
) -> None:
    odd(put(home, "train-1", ""))
    closed(home)
    began = time.monotonic()
    assert found(tmp_path) == [f"train-1 of ann{UNKNOWN}"]
    assert time.monotonic() - began < 9


@needs_root
def test_what_an_earlier_boot_has_left_damaged_is_over(home: Path, tmp_path: Path) -> None:
    file = put(home, "train-1", "")
    closed(home)
    os.utime(file, (0, 0))
    assert found(tmp_path) == []


@needs_root
def test_a_directory_that_its_owner_may_not_list_is_named(home: Path, tmp_path: Path) -> None:
    closed(home)
    (home / ".rigup" / "jobs").chmod(0)
    assert found(tmp_path) == [f"jobs of ann{UNKNOWN}"]


@needs_root
def test_names_forge_nothing(home: Path, tmp_path: Path) -> None:
    jobs = home / ".rigup" / "jobs"
    for name in ("x\njob|root|y|{", "x\nboot|another|0", "x|y", ".hidden", "A", "*"):
        (jobs / name).mkdir()
    (jobs / "linked").symlink_to("/etc")
    closed(home)
    assert found(tmp_path) == []
    assert not any("y" in job for job in found(tmp_path, "root"))


@needs_root
def test_many_jobs_take_little_time(home: Path, tmp_path: Path) -> None:
    for number in range(1000):
        put(home, f"train-{number}", state(state="succeeded"))
    put(home, "train-last", state())
    closed(home)
    assert found(tmp_path) == ["train-last of ann"]


@contextmanager
def supervisor(directory: Path, job: str, *words: str) -> Iterator[None]:
    told = ("supervise", "--state-dir", str(directory), "--job", job, *words)
    program = "import sys; print(flush=True); sys.stdin.read()"
    started = subprocess.Popen(
        [sys.executable, "-c", program, *told], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdout is not None
    started.stdout.readline()
    try:
        yield
    finally:
        started.communicate()


def test_a_supervisor_counts_wherever_its_state_directory_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    job = f"hidden-{os.getpid()}"
    with supervisor(elsewhere, job):
        jobs = gather(LocalTransport(), (OCCUPANTS,), state_dir=str(tmp_path))[OCCUPANTS].jobs
    assert [name.split(" of ")[0] for name in jobs if job in name] == [job]


@pytest.mark.parametrize("over", ["queued", "succeeded"])
def test_a_supervisor_that_waits_for_its_turn_does_not_count(tmp_path: Path, over: str) -> None:
    job = f"waiting-{os.getpid()}"
    directory = tmp_path / "jobs" / job
    directory.mkdir(parents=True)
    (directory / "state.json").write_text(state(state=over))
    with supervisor(tmp_path, job, "--standby", "5"):
        jobs = gather(LocalTransport(), (OCCUPANTS,), state_dir=str(tmp_path))[OCCUPANTS].jobs
    assert not any(job in name for name in jobs)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("name", ["jobs_of_one.sh", "jobs_of_all.sh"])
def test_the_scripts_are_plain_shell(name: str) -> None:
    script = module._file(name)
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-"], input=script.encode(), capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()
