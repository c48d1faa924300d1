from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from provisioner.errors import AuthError, ConnectError, UnknownHostKey
from tests.tui.fakes import FakeAgent, HangingConnect, host, job, sample
from tui.feeds import SILENCE_S, Backoff, Connect, Feeds, HostFeed, failure_of
from tui.state import HostConnecting, HostOffline, HostOnline, JobsArrived, Message, SampleArrived

NO_WAIT = Backoff(first_s=0.0, most_s=0.0, blocked_s=0.0)


@dataclass
class Heard:
    """What a feed posted, one at a time."""

    messages: queue.Queue[Message] = field(default_factory=queue.Queue)

    def next(self, kind: type[Message] | None = None) -> Message:
        """The next message, or the next of a kind."""
        while True:
            message = self.messages.get(timeout=10)
            if kind is None or isinstance(message, kind):
                return message


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def start(heard: Heard) -> Iterator[object]:
    feeds: list[HostFeed] = []

    def start_feed(connect: Connect, **options: object) -> HostFeed:
        options = {"backoff": NO_WAIT, "clock": lambda: 50.0, "wall": lambda: 60.0, **options}
        feed = HostFeed(host("gpu01"), connect, heard.messages.put, **options)  # type: ignore[arg-type]
        feeds.append(feed)
        feed.start()
        return feed

    yield start_feed
    assert Feeds(feeds).close(5.0)


def test_a_good_host_goes_online_and_brings_samples_and_jobs(heard, start) -> None:
    agent = FakeAgent(job())
    start(agent.connect)
    assert heard.next() == HostConnecting("gpu01")
    assert heard.next() == HostOnline("gpu01", (job(),))
    assert heard.next() == SampleArrived("gpu01", agent.first_items[0], 50.0, 60.0)
    agent.push((job("two"),))
    assert heard.next() == JobsArrived("gpu01", (job("two"),))


def test_a_refused_host_says_why_and_is_tried_again(heard, start) -> None:
    agent = FakeAgent()
    agent.refuse = ConnectError("refused", host="gpu01", remedy="start sshd\nor not")
    start(agent.connect)
    assert heard.next(HostOffline) == HostOffline("gpu01", "refused", "start sshd; or not", 50.0)
    agent.refuse = None
    heard.next(HostOnline)


def test_a_lost_link_is_made_again(heard, start) -> None:
    agent = FakeAgent()
    feed = start(agent.connect)
    heard.next(SampleArrived)
    first = feed.client()
    agent.cut()
    assert heard.next(HostOffline).reason == "the link broke"
    heard.next(HostOnline)
    assert first.closed
    assert feed.await_client(first, 5.0) is agent.clients[-1]


@pytest.mark.parametrize(
    "error", [ValueError("bug [x]\x1b[31m"), EOFError(), OSError(113, "no route")]
)
def test_whatever_goes_wrong_becomes_the_reason(heard, start, error: Exception) -> None:
    agent = FakeAgent()
    agent.refuse = error
    start(agent.connect)
    reason = heard.next(HostOffline).reason
    assert type(error).__name__ in reason
    assert "\x1b" not in reason


def test_waiting_for_the_next_try_can_be_cut_short(heard, start) -> None:
    agent = FakeAgent()
    agent.refuse = ConnectError("refused")
    feed = start(agent.connect, backoff=Backoff(first_s=3600, most_s=3600, jitter=0))
    assert heard.next(HostOffline).retry_at == 3650.0
    agent.refuse = None
    feed.retry_now()
    heard.next(HostOnline)


def test_closing_while_waiting_or_watching_ends_the_thread_and_the_link(heard) -> None:
    agent, refusing = FakeAgent(), FakeAgent()
    refusing.refuse = ConnectError("refused")
    slow = Backoff(first_s=3600, most_s=3600)
    feeds = Feeds(
        [
            HostFeed(host("a"), agent.connect, heard.messages.put),
            HostFeed(host("b"), refusing.connect, heard.messages.put, backoff=slow),
        ]
    )
    feeds.start()
    heard.next(SampleArrived)
    assert feeds.close(5.0)
    assert agent.clients[0].closed


def test_a_hanging_host_does_not_keep_close_waiting_and_is_hung_up_on_later(heard) -> None:
    hanging = HangingConnect()
    feed = HostFeed(host("a"), hanging, heard.messages.put)
    feeds = Feeds([feed])
    feeds.start()
    assert hanging.called.wait(10)
    assert heard.next() == HostConnecting("a")
    assert not feeds.close(0.0)
    hanging.release.set()
    thread = feed.close()
    assert thread is not None
    thread.join(10)
    assert not thread.is_alive()
    assert heard.messages.empty()


def test_a_silent_link_is_given_up_and_made_again(heard, start) -> None:
    agent = FakeAgent()
    feed = start(agent.connect)
    heard.next(SampleArrived)
    feed.drop_if_silent(50.0 + SILENCE_S - 1)
    assert heard.messages.empty()
    feed.drop_if_silent(50.0 + SILENCE_S)
    assert heard.next() == HostOffline("gpu01", "no news for 20 s", "", 70.0)
    heard.next(HostOnline)
    assert agent.clients[0].closed


def test_news_after_the_end_is_dropped(heard) -> None:
    agent = FakeAgent()
    gate = threading.Event()

    def connect_late(asked):
        gate.wait(10)
        return agent.connect(asked)

    feed = HostFeed(host("a"), connect_late, heard.messages.put)
    feed.start()
    heard.next(HostConnecting)
    thread = feed.close()
    gate.set()
    assert thread is not None
    thread.join(10)
    assert heard.messages.empty()
    assert agent.clients[0].closed


def test_backoff_doubles_up_to_its_cap_with_jitter() -> None:
    backoff = Backoff()
    calm = [backoff.delay(attempt, blocked=False, chance=0.5) for attempt in range(1, 9)]
    assert calm == [1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.delay(1, blocked=False, chance=0.0) == 0.75
    assert backoff.delay(99, blocked=False, chance=1.0) == 37.5
    assert backoff.delay(1, blocked=True, chance=0.5) == 60


def test_where_a_person_must_act_attempts_are_rare() -> None:
    unknown = UnknownHostKey("not pinned", fingerprint="SHA256:x", host="a", remedy="invoke trust")
    assert failure_of(unknown).blocked
    assert failure_of(AuthError("no")).blocked
    assert not failure_of(ConnectError("no")).blocked


def test_samples_keep_their_none(heard, start) -> None:
    agent = FakeAgent()
    agent.first_items = [sample(gpu_error="no driver")]
    start(agent.connect)
    assert heard.next(SampleArrived).sample.gpu_error == "no driver"
