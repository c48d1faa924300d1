"""Cgroups of this machine for tests that may make some: root, and a hierarchy that is writable."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_agent import cgroup
from remote_agent.cgroup import CGROUP2, SYSTEMD_V1, scope_name

KINDS = (CGROUP2, SYSTEMD_V1)


@contextlib.contextmanager
def scope_directory(kind: str, job_id: str) -> Iterator[Path]:
    """A cgroup with the name of a job's scope, in the hierarchy ``kind``."""
    mounts = [mount for found, _, mount in cgroup._mounts() if found == kind]
    if not mounts:
        pytest.skip(f"no {kind} hierarchy is mounted here")
    path = Path(mounts[0]) / scope_name(job_id)
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + 10
    while path.exists():
        _kill_all(path)
        try:
            for directory, _, _ in os.walk(path, topdown=False):
                Path(directory).rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{path} does not become empty"
            time.sleep(0.001)


def _kill_all(path: Path) -> None:
    """Whatever a failed test has left, also one that forks all the time."""
    for listing in path.glob("**/cgroup.procs"):
        with contextlib.suppress(OSError):
            for word in listing.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(word), signal.SIGKILL)
