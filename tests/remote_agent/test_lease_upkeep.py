"""A running job keeps its GPUs, however long it runs and whatever cleans the directory."""

from __future__ import annotations

import os

import pytest

from remote_agent.lease_directories import LeaseDirectories
from remote_agent.lease_upkeep import EVERY_S, LeaseUpkeep
from remote_agent.leases import Leases
from remote_agent.runtimes.base import Gpu

GPUS = (Gpu(0, "GPU-0", ""), Gpu(1, "GPU-1", ""))


class Kept:
    def __init__(self, directory):
        self.now = 0.0
        self.parent = str(directory)
        os.chmod(self.parent, 0o700)
        self.host = Leases(LeaseDirectories((self.parent,), (os.geteuid(),)))
        self.leases = [self.host.acquire(gpu.uuid, "train-1") for gpu in GPUS]
        self.upkeep = LeaseUpkeep(GPUS, "train-1", self.leases, self.host, lambda: self.now)

    def later(self):
        self.now += EVERY_S
        self.upkeep.keep()

    def files(self):
        [home] = os.listdir(self.parent)
        return [entry.path for entry in os.scandir(os.path.join(self.parent, home))]


@pytest.fixture
def kept(tmp_path):
    found = Kept(tmp_path)
    yield found
    for fd in found.leases:
        os.close(fd)


def test_a_lease_that_is_held_is_only_made_young(kept):
    for path in kept.files():
        os.utime(path, (0, 0))
    kept.later()
    assert all(os.stat(path).st_mtime > 0 for path in kept.files())
    assert len(kept.leases) == len(GPUS)


def test_a_socket_that_was_deleted_is_made_again(kept):
    for path in kept.files():
        os.unlink(path)
    assert not kept.host.is_held("GPU-0")
    kept.upkeep.keep()
    assert not kept.host.is_held("GPU-0"), "not yet due"
    kept.later()
    assert kept.host.holder("GPU-0").startswith("train-1 of ")
    assert kept.host.is_held("GPU-1")


def test_a_lease_that_came_too_late_is_had_later(kept):
    for _ in GPUS:
        os.close(kept.leases.pop())
    another = kept.host.acquire("GPU-0", "train-2")
    kept.later()
    assert len(kept.leases) == 1
    os.close(another)
    kept.later()
    assert len(kept.leases) == len(GPUS)


def test_an_error_is_no_end(kept, monkeypatch):
    monkeypatch.setattr(kept.host, "acquire", lambda *words: os.stat("/nothing/here"))
    kept.later()
    monkeypatch.undo()
    kept.later()
    assert len(kept.leases) == len(GPUS)
