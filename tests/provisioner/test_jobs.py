"""The job façade against agents that are scripted, call by call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory import Host, Inventory
from provisioner import jobs
from provisioner.agent.client import LogChunk
from provisioner.errors import (
    AgentError,
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    RigupError,
    UsageError,
)
from provisioner.jobs import (
    copy_log,
    find,
    follow_log,
    follow_to_end,
    on_each,
)
from remote_agent.protocol.job import JobRecord, JobSpec

JOB = "train-0101-000000-abcd"


def record(job_id: str = JOB, state: str = "running") -> JobRecord:
    spec = JobSpec(job_id=job_id, name="train", argv=("python3", "train.py"))
    return JobRecord(spec, state, created_at=1.0)


class LogAgent:
    """One connection: each call is answered by the next of ``steps``, a state or an error."""

    def __init__(self, log: bytes, steps: list[object]) -> None:
        self.log = log
        self.steps = steps
        self.asked: list[int] = []
        self.closed = 0

    def read_log(self, job_id: str, offset: int, *, limit: int, wait_s: float = 0.0) -> LogChunk:
        self.asked.append(offset)
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        take, state = step if isinstance(step, tuple) else (limit, "succeeded")
        data = self.log[offset : offset + take]
        return LogChunk(offset, data, len(self.log), record(state=state))

    def close(self) -> None:
        self.closed += 1


def test_a_copy_of_a_log_ends_at_the_size_that_was_found() -> None:
    class Growing(LogAgent):
        host_name = "gpu01"

        def read_log(
            self, job_id: str, offset: int, *, limit: int, wait_s: float = 0.0
        ) -> LogChunk:
            self.log += b"more" * 100
            return super().read_log(job_id, offset, limit=100, wait_s=wait_s)

    agent, written = Growing(b"x" * 150, []), []
    copy_log(agent, JOB, 0, written.append)  # type: ignore[arg-type]
    assert b"".join(written) == b"x" * 150 + b"more" * 100


def test_a_log_that_became_shorter_is_told_and_read_anew() -> None:
    cuts: list[tuple[int, int]] = []
    agent = LogAgent(b"new\n", [])
    written: list[bytes] = []
    follow_to_end(
        lambda: agent,  # type: ignore[arg-type, return-value]
        JOB,
        written.append,
        offset=100,
        on_cut=lambda read, left: cuts.append((read, left)),
    )
    assert (written, cuts) == ([b"new\n"], [(100, 4)])
    copied: list[bytes] = []
    copy_log(agent, JOB, 100, copied.append, lambda read, left: cuts.append((read, left)))  # type: ignore[arg-type]
    assert (copied, len(cuts)) == ([b"new\n"], 2)


class Line:
    """What ``reconnect`` gives, in order: agents, or errors."""

    def __init__(self, *ends: LogAgent | Exception) -> None:
        self.ends = list(ends)
        self.pauses: list[float] = []
        self.told: list[str] = []

    def connect(self) -> LogAgent:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def follow(self, offset: int = 0) -> bytes:
        chunks = follow_log(
            self.connect,  # type: ignore[arg-type]
            JOB,
            offset=offset,
            on_break=lambda error, pause: self.told.append(error.message),
            sleep=self.pauses.append,
        )
        return b"".join(chunk.data for chunk in chunks)


LOG = bytes(range(256)) * 20
BREAKS = [ConnectionLost("lost"), ConnectError("refused"), CommandTimeout("silent")]


class TestFollow:
    def test_to_the_end_over_one_connection(self) -> None:
        agent = LogAgent(LOG, [(100, "running"), (0, "running"), (9999, "running")])
        assert Line(agent).follow() == LOG
        assert agent.asked == [0, 100, 100, len(LOG)]
        assert agent.closed == 1

    @pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
    def test_a_break_goes_on_at_the_very_byte(self, error: Exception) -> None:
        first = LogAgent(LOG, [(1000, "running"), (7, "running"), error])
        second = LogAgent(LOG, [])
        line = Line(first, second)
        assert line.follow() == LOG
        assert second.asked[0] == 1007
        assert (first.closed, second.closed) == (1, 1)
        assert len(line.told) == len(line.pauses) == 1

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(st.integers(0, 2000) | st.sampled_from(["lost", "refused"]), max_size=20),
        st.integers(0, len(LOG)),
    )
    def test_no_byte_is_lost_or_repeated_whatever_breaks(
        self, script: list[int | str], offset: int
    ) -> None:
        ends: list[LogAgent | Exception] = []
        steps: list[object] = []
        for item in script:
            if isinstance(item, int):
                steps.append((item, "running"))
            else:
                ends.append(LogAgent(LOG, [*steps, ConnectionLost("lost")]))
                steps = []
                if item == "refused":
                    ends.append(ConnectError("refused"))
        ends.append(LogAgent(LOG, steps))
        assert Line(*ends).follow(offset) == LOG[offset:]

    def test_pauses_grow_and_begin_anew_after_a_success(self) -> None:
        refused = [ConnectError("refused") for _ in range(7)]
        line = Line(
            *refused, LogAgent(LOG, [(5, "running"), ConnectionLost("x")]), LogAgent(LOG, [])
        )
        assert line.follow() == LOG
        assert line.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 0.5]

    def test_an_answer_of_the_agent_is_no_break(self) -> None:
        agent = LogAgent(LOG, [AgentError("no such job", code="no-such-job")])
        line = Line(agent)
        with pytest.raises(AgentError):
            line.follow()
        assert agent.closed == 1
        assert line.pauses == []

    def test_a_log_that_grew_after_the_end_is_read_to_its_end(self) -> None:
        agent = LogAgent(LOG, [(100, "failed"), (100, "failed")])
        assert Line(agent).follow() == LOG

    def test_following_to_the_end_gives_the_ended_job(self) -> None:
        written: list[bytes] = []
        agent = LogAgent(LOG, [(10, "running"), (9999, "stopped")])
        ended = follow_to_end(Line(agent).connect, JOB, written.append)  # type: ignore[arg-type]
        assert ended.state == "stopped"
        assert b"".join(written) == LOG


class TestFind:
    @pytest.fixture(autouse=True)
    def fleet(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
        self.jobs: dict[str, Sequence[str] | RigupError] = {}
        self.asked: list[str] = []

        def with_agent(host: Host, work: Callable[[object], object]) -> object:
            self.asked.append(host.name)
            answer = self.jobs.get(host.name, ())
            if isinstance(answer, RigupError):
                raise answer

            class Client:
                def jobs(self) -> tuple[JobRecord, ...]:
                    return tuple(record(name) for name in answer)

            return work(Client())

        monkeypatch.setattr(jobs, "with_agent", with_agent)
        names = ("a", "b", "c")
        self.inventory = Inventory({name: Host(name, name) for name in names}, {})

    def look(self, job: str, host: str | None = None) -> tuple[str, str]:
        one, found = find(job, self.inventory, host)
        return one.name, found.job_id

    def test_by_its_beginning_wherever_it_is(self) -> None:
        self.jobs = {"b": ["train-1", "other-2"]}
        assert self.look("tr") == ("b", "train-1")
        assert sorted(self.asked) == ["a", "b", "c"]

    def test_a_whole_id_wins_over_longer_ones(self) -> None:
        self.jobs = {"a": ["train-1", "train-12"], "b": ["train-1-x"]}
        assert self.look("train-1") == ("a", "train-1")

    def test_an_ambiguous_beginning_names_the_jobs(self) -> None:
        self.jobs = {"a": ["train-1"], "b": ["train-2"]}
        with pytest.raises(UsageError, match="train-1, train-2") as raised:
            self.look("train")
        assert raised.value.remedy == "type more of the id"

    def test_no_such_job(self) -> None:
        with pytest.raises(UsageError, match=r"no job 'train' on 3 host\(s\)"):
            self.look("train")

    @pytest.mark.parametrize("job", ["", "../x", "/etc", "*", "Train", "a b", "-x", "a" * 99])
    def test_what_cannot_be_a_job_id_asks_no_host(self, job: str) -> None:
        with pytest.raises(UsageError, match="is no job id"):
            self.look(job)
        assert self.asked == []

    def test_only_on_the_named_host(self) -> None:
        self.jobs = {"a": ["train-1"], "b": ["train-2"]}
        assert self.look("train", "b") == ("b", "train-2")
        assert self.asked == ["b"]

    def test_the_host_that_was_sent_the_job_is_asked_first(self) -> None:
        self.jobs = {"a": ["train-1"], "b": ["train-2"]}
        jobs.remember("train-2", self.inventory.hosts["b"])
        assert self.look("train-2") == ("b", "train-2")
        assert self.asked == ["b"]

    def test_a_remembered_host_that_left_the_inventory_is_no_obstacle(self) -> None:
        self.jobs = {"c": ["train-1"]}
        jobs.remember("train-1", Host("gone", "gone"))
        assert self.look("train-1") == ("c", "train-1")

    def test_a_host_that_is_down_hides_no_job_on_another(self) -> None:
        self.jobs = {"a": ConnectError("refused"), "b": ["train-1"]}
        assert self.look("train") == ("b", "train-1")

    @pytest.mark.parametrize(("job", "newest"), [("train-1", True), ("train", True), ("tr", False)])
    def test_a_job_that_two_hosts_claim_is_of_neither(self, job: str, newest: bool) -> None:
        self.jobs = {"a": ["train-1"], "c": ["train-1"]}
        with pytest.raises(UsageError, match="a and c both say that they have train-1") as raised:
            find(job, self.inventory, None, newest=newest)
        assert raised.value.remedy == "name the right one with --host"

    def test_a_job_of_a_host_that_is_down_is_not_looked_for_on_others(self) -> None:
        """Another one could pass its own log and files off as those of the job."""
        self.jobs = {"a": ConnectError("refused"), "b": ["train-1"]}
        jobs.remember("train-1", self.inventory.hosts["a"])
        with pytest.raises(ConnectError):
            self.look("train-1")
        assert self.look("train-1", "b") == ("b", "train-1")

    def test_a_job_that_may_be_on_a_host_that_is_down(self) -> None:
        self.jobs = {"b": ConnectError("refused")}
        with pytest.raises(ConnectError) as raised:
            self.look("train")
        assert raised.value.host == "b"


def test_every_host_gets_a_result_or_its_own_error() -> None:
    def work(host: Host) -> str:
        if host.name == "b":
            raise ConnectError("refused")
        return host.name.upper()

    hosts = [Host(name, name) for name in "abc"]
    results = on_each(hosts, work)
    assert [(host.name, value) for host, value, _ in results] == [
        ("a", "A"),
        ("b", None),
        ("c", "C"),
    ]
    assert [str(error) for _, _, error in results if error] == ["b: refused"]
    assert on_each([], work) == []


def test_an_unexpected_error_of_one_host_never_hides_the_others() -> None:
    def work(host: Host) -> str:
        if host.name == "bad":
            raise ValueError("what the host said makes no sense")
        return "fine"

    hosts = [Host(name, name) for name in ("a", "bad", "c")]
    results = jobs.on_each(hosts, work)
    assert [found for _, found, _ in results] == ["fine", None, "fine"]
    error = results[1][2]
    assert error is not None
    assert (error.host, "ValueError" in error.message) == ("bad", True)


def test_a_host_of_the_ssh_configuration_is_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RIGUP_HOME", str(tmp_path))
    known = Inventory({}, {}, None, frozenset({"alias1"}))
    jobs.remember("train-1", Host("alias1", "alias1"))
    assert [host.name for host in jobs._remembered_hosts("train", known)] == ["alias1"]
    assert jobs._remembered_hosts("other", known) == ()


def test_of_several_jobs_the_newest_is_taken_where_that_is_harmless() -> None:
    host = Host("a", "a")
    old, new = (
        (host, JobRecord(JobSpec(name, "train", ("x",)), "succeeded", at))
        for name, at in (("train-1", 1.0), ("train-2", 2.0))
    )
    assert jobs._the_one("train", [old, new], newest=True) == new
    assert jobs._the_one("train-1", [old, new], newest=True) == old
    with pytest.raises(UsageError, match="begins several"):
        jobs._the_one("train", [old, new], newest=False)


def test_why_a_queued_job_waits_is_told_once_each() -> None:
    reasons = ["", "1 of its 1 GPUs", "1 of its 1 GPUs", "jobs that are ahead of it", "", ""]

    class Waiting(LogAgent):
        waits: ClassVar[list[float]] = []

        def read_log(
            self, job_id: str, offset: int, *, limit: int, wait_s: float = 0.0
        ) -> LogChunk:
            self.waits.append(wait_s)
            chunk = super().read_log(job_id, offset, limit=limit, wait_s=wait_s)
            waits = reasons.pop(0) if reasons else ""
            state = "queued" if reasons else "succeeded"
            return replace(chunk, record=replace(chunk.record, state=state, waiting_for=waits))

    agent, said = Waiting(b"done\n", []), list[str]()
    follow_to_end(lambda: agent, JOB, lambda data: None, on_wait=said.append)  # type: ignore[arg-type, return-value]
    assert said == ["1 of its 1 GPUs", "jobs that are ahead of it"]
    assert max(agent.waits) <= 1.0, "reasons are read anew while it is queued"
