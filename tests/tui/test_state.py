from __future__ import annotations

from dataclasses import replace

import pytest

from remote_agent.protocol.job import FAILED, QUEUED, RUNNING, SUCCEEDED
from tests.tui.fakes import NOW, gpu, job, sample
from tui.state import (
    HISTORY,
    FleetState,
    HostConnecting,
    HostOffline,
    HostOnline,
    JobChanged,
    JobsArrived,
    Link,
    Message,
    SampleArrived,
    reduce,
)


def after(*messages: Message, names: tuple[str, ...] = ("a", "b")) -> FleetState:
    state = FleetState.of(names)
    for message in messages:
        state = reduce(state, message)
    return state


def arrived(host: str = "a", **values: object) -> SampleArrived:
    return SampleArrived(host, sample(gpu(**values)), at=10.0, wall=NOW - 5)


def test_hosts_begin_connecting_in_inventory_order() -> None:
    state = after(names=("z", "a"))
    assert list(state.hosts) == ["z", "a"]
    assert not state.is_settled
    assert state.online == 0


def test_an_offline_host_keeps_its_reason_while_it_is_tried_again_and_shows_no_values() -> None:
    state = after(
        HostOnline("a", (job(),)),
        arrived(),
        HostOffline("a", "refused", "start sshd", retry_at=20.0),
        HostConnecting("a"),
    )
    host = state.hosts["a"]
    assert (host.link, host.reason, host.remedy, host.retry_at) == (
        Link.OFFLINE,
        "refused",
        "start sshd",
        None,
    )
    assert host.sample is None
    assert state.gpus() == []
    assert state.count_jobs(RUNNING) == 0
    assert list(host.jobs) == ["job-one"]


def test_coming_back_clears_the_reason() -> None:
    host = after(HostOffline("a", "refused"), HostOnline("a")).hosts["a"]
    assert (host.link, host.reason) == (Link.ONLINE, "")
    assert not host.is_settled


def test_one_host_says_nothing_about_another() -> None:
    before = after(HostOnline("b"))
    assert reduce(before, HostOffline("a", "x")).hosts["b"] is before.hosts["b"]


def test_news_of_an_unknown_host_changes_nothing() -> None:
    state = after()
    assert reduce(state, HostOnline("ghost")) is state


def test_a_sample_that_arrives_after_the_link_broke_is_not_shown() -> None:
    assert after(HostOffline("a", "x"), arrived()).hosts["a"].sample is None


def test_the_clock_skew_comes_from_the_sample() -> None:
    assert after(HostOnline("a"), arrived()).hosts["a"].clock_skew == 5.0


def test_history_is_bounded_and_keeps_what_was_not_available() -> None:
    messages = [arrived(utilization=None, power=float(number)) for number in range(HISTORY + 7)]
    history = after(HostOnline("a"), *messages).hosts["a"].history[0]
    assert len(history.power) == HISTORY
    assert history.power[-1] == HISTORY + 6
    assert set(history.utilization) == {None}


def test_a_job_list_replaces_the_old_one() -> None:
    state = after(HostOnline("a", (job("one"), job("two"))), JobsArrived("a", (job("two"),)))
    assert list(state.hosts["a"].jobs) == ["two"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (job(state=QUEUED), job(state=RUNNING)),
        (job(state=RUNNING), job(state=FAILED)),
        (job(log_bytes=10), job(log_bytes=20)),
    ],
)
def test_older_news_of_a_job_never_wins(older: object, newer: object) -> None:
    for first, second in ((older, newer), (newer, older)):
        state = after(HostOnline("a", (first,)), JobChanged("a", second))  # type: ignore[arg-type]
        assert state.job("a", "job-one") == newer
        state = after(HostOnline("a", (first,)), JobsArrived("a", (second,)))  # type: ignore[arg-type]
        assert state.job("a", "job-one") == newer


def test_jobs_are_ordered_running_queued_then_the_newest() -> None:
    jobs = (
        replace(job("old-done", SUCCEEDED), started_at=NOW - 900),
        replace(job("new-done", SUCCEEDED), started_at=NOW - 100),
        replace(job("waits", QUEUED), started_at=None),
        job("runs"),
    )
    state = after(HostOnline("a", jobs[:2]), HostOnline("b", jobs[2:]))
    assert [each.job_id for _, each in state.all_jobs()] == [
        "runs",
        "waits",
        "new-done",
        "old-done",
    ]
