"""The dashboard's feed and log follower over a real agent process on this machine."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

from inventory.model import Host
from provisioner.agent.client import AgentClient
from provisioner.agent.connect import open_agent
from provisioner.transport.local import LocalTransport
from remote_agent.protocol.job import JobSpec
from tui.feeds import Backoff, Feeds, HostFeed
from tui.log_buffer import LogBuffer, plain
from tui.log_follower import LogArrived, LogEnded, LogFollower, LogMessage, LogWaiting
from tui.log_stream import LogStream
from tui.state import FleetState, Message, reduce

PROGRAM = r"""
import sys, time
for number in range(200):
    print("line", number, flush=True)
    sys.stdout.write("\r 10%|#\r 99%|##\n")
    time.sleep(0.01)
sys.exit(3)
"""


def test_lost_links_lose_nothing(tmp_path: Path) -> None:
    host = Host("here", "here", state_dir=str(tmp_path / "state"))
    clients: list[AgentClient] = []

    def connect(asked: Host) -> AgentClient:
        clients.append(open_agent(LocalTransport(asked.name), asked.state_dir))
        return clients[-1]

    with connect(host) as client:
        client.submit(JobSpec("job-one", "train", ("python3", "-c", PROGRAM)))
    fleet: queue.Queue[Message] = queue.Queue()
    log: queue.Queue[LogMessage] = queue.Queue()
    feed = HostFeed(host, connect, fleet.put, interval_s=0.2, backoff=Backoff(0.05, 0.05))
    follower = LogFollower(feed, "job-one", log.put, poll_s=1.0)
    feed.start()
    follower.start()
    lines, breaks = _read(log, follower, clients)
    _wait_for_job_and_sample(fleet)
    thread = follower.stop()
    assert Feeds([feed]).close(10.0)
    _join(thread)
    assert breaks >= 1
    assert lines == [part for number in range(200) for part in (f"line {number}", " 99%|##")]


def _read(
    log: queue.Queue[LogMessage], follower: LogFollower, clients: list[AgentClient]
) -> tuple[list[str], int]:
    """The whole log; the link is cut each time another 60 lines were read."""
    stream, breaks, cut_at = LogStream(LogBuffer()), 0, 60
    deadline = time.monotonic() + 60
    while not isinstance(message := log.get(timeout=deadline - time.monotonic()), LogEnded):
        if isinstance(message, LogWaiting):
            breaks += 1
        if isinstance(message, LogArrived):
            stream.feed(message.offset, message.data)
            follower.shown(len(message.data))
        if stream.buffer.end > cut_at:
            cut_at += 120
            clients[-1].close()
    assert message.reason == ""
    return [plain(stream.buffer.line(number)) for number in range(stream.buffer.end)], breaks


def _wait_for_job_and_sample(fleet: queue.Queue[Message]) -> None:
    """The feed connects again after the last cut, however slow the machine is."""
    state, deadline = FleetState.of(["here"]), time.monotonic() + 60
    while state.job("here", "job-one") is None or state.hosts["here"].sample is None:
        state = reduce(state, fleet.get(timeout=deadline - time.monotonic()))


def _join(thread: threading.Thread | None) -> None:
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
