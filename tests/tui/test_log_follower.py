from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import pytest

from provisioner.errors import CommandTimeout
from remote_agent.protocol.job import SUCCEEDED
from tests.tui.fakes import FakeAgent, FakeClient, host, job
from tui.feeds import Backoff, Feeds, HostFeed
from tui.log_follower import (
    FAR_BEHIND,
    IN_FLIGHT,
    READ_LIMIT,
    JobKey,
    LogArrived,
    LogEnded,
    LogFollower,
    LogMessage,
    LogWaiting,
)
from tui.log_stream import BACKLOG

KEY = JobKey("gpu01", "job-one")
NO_WAIT = Backoff(first_s=0.0, most_s=0.0)


class Reader:
    """A follower on a feed, and what it posted."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.messages: queue.Queue[LogMessage] = queue.Queue()
        self.feed = HostFeed(host("gpu01"), agent.connect, lambda message: None, backoff=NO_WAIT)
        self.follower = LogFollower(self.feed, "job-one", self.messages.put, poll_s=10)
        self.text = b""

    def start(self) -> None:
        self.feed.start()
        self.follower.start()

    def next(self) -> LogMessage:
        message = self.messages.get(timeout=10)
        if isinstance(message, LogArrived):
            self.follower.shown(len(message.data))
            self.text += message.data
        return message

    def until(self, wanted: Callable[[], bool]) -> None:
        while not wanted():
            self.next()

    def close(self) -> None:
        thread = self.follower.stop()
        assert Feeds([self.feed]).close(5.0)
        if thread is not None:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader(FakeAgent(job(), logs={"job-one": b"one\n"}))
    yield reader
    reader.close()


def test_it_follows_what_is_written(reader: Reader) -> None:
    reader.start()
    reader.until(lambda: reader.text == b"one\n")
    reader.agent.append("job-one", b"two\n")
    reader.until(lambda: reader.text == b"one\ntwo\n")


def test_it_ends_with_the_job_after_the_last_byte(reader: Reader) -> None:
    reader.start()
    reader.until(lambda: reader.text == b"one\n")
    reader.agent.append("job-one", b"last")
    reader.agent.finish("job-one", SUCCEEDED)
    reader.until(lambda: reader.text == b"one\nlast")
    while not isinstance(message := reader.next(), LogEnded):
        pass
    assert message == LogEnded(KEY)


def test_it_opens_at_the_backlog(reader: Reader) -> None:
    log = b"x" * 1_000_000 + b"end"
    reader.agent.logs["job-one"] = log
    reader.start()
    reader.until(lambda: reader.text.endswith(b"end"))
    assert reader.text == log[-BACKLOG:]


def test_after_a_lost_link_it_goes_on_at_the_same_byte(reader: Reader) -> None:
    reader.start()
    reader.until(lambda: reader.text == b"one\n")
    for number in range(5):
        reader.agent.cut()
        while not isinstance(message := reader.next(), LogWaiting):
            pass
        assert message.at == 4 + number * 2
        reader.agent.append("job-one", b"%d\n" % number)
        reader.until(lambda number=number: reader.text.endswith(b"%d\n" % number))
    assert reader.text == b"one\n0\n1\n2\n3\n4\n"


def test_a_slow_answer_is_asked_again_over_the_same_link(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_log, failures = FakeClient.read_log, [CommandTimeout("no answer")]

    def flaky(self: FakeClient, *args: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return read_log(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeClient, "read_log", flaky)
    monkeypatch.setattr("tui.log_follower.AWAIT_S", 0.01)
    reader.start()
    reader.until(lambda: reader.text == b"one\n")
    assert len(reader.agent.clients) == 1


def test_a_job_that_is_gone_ends_it_with_the_reason(reader: Reader) -> None:
    del reader.agent.records["job-one"]
    reader.start()
    assert reader.next() == LogEnded(KEY, "no such job")


def test_it_does_not_read_ahead_of_what_is_shown(reader: Reader) -> None:
    reader.agent.logs["job-one"] = b"x" * 100
    reader.start()
    reader.until(lambda: len(reader.text) == 100)
    reader.agent.append("job-one", b"y" * (3 * IN_FLIGHT))
    taken = [reader.messages.get(timeout=10) for _ in range(IN_FLIGHT // READ_LIMIT)]
    with pytest.raises(queue.Empty):
        reader.messages.get(timeout=0.05)
    for message in taken:
        assert isinstance(message, LogArrived)
        reader.text += message.data
        reader.follower.shown(len(message.data))
    reader.until(lambda: len(reader.text) == 100 + 3 * IN_FLIGHT)


def test_far_behind_it_goes_on_at_the_newest(reader: Reader) -> None:
    reader.start()
    reader.until(lambda: reader.text == b"one\n")
    reader.agent.append("job-one", b"z" * (FAR_BEHIND + 3 * READ_LIMIT) + b"newest")
    reader.until(lambda: reader.text.endswith(b"newest"))
    assert len(reader.text) < READ_LIMIT + BACKLOG + 100
