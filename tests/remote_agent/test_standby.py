"""A supervisor that is ready before its job's turn."""

from __future__ import annotations

import os
import socket
import threading

from remote_agent.runtimes.base import Gpu
from remote_agent.standby import Standby, wait_for_go

GPUS = [Gpu(0, "GPU-0", "0000:05:00"), Gpu(3, "GPU-3")]


def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Standby("job-1", ours), theirs.detach()


def test_it_is_told_its_gpus_and_gets_the_leases():
    standby, theirs = pair()
    leases = [os.open(os.devnull, os.O_RDONLY) for _ in GPUS]
    assert standby.go(GPUS, leases)
    told, inherited = wait_for_go(theirs)
    assert told == GPUS
    for lease, copy in zip(leases, inherited):  # noqa: B905
        assert copy != lease
        assert os.path.sameopenfile(lease, copy)
        assert os.get_inheritable(copy), "the program keeps the GPU, too"
        os.close(lease)
        os.close(copy)


def test_it_ends_when_its_turn_never_comes():
    standby, theirs = pair()
    told = []
    thread = threading.Thread(target=lambda: told.append(wait_for_go(theirs)))
    thread.start()
    standby.dismiss()
    standby.dismiss()
    thread.join(60)
    assert told == [None]


def test_one_that_is_gone_is_told():
    standby, theirs = pair()
    os.close(theirs)
    assert not standby.go(GPUS, [])
