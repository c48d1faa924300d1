"""A host's agent that speaks the protocol and lies: an error of that host, never more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_session import HELLO, ScriptedSession

from provisioner.agent.client import (
    AgentClient,
    LogPlace,
    MissingBlobs,
    OutputHash,
    OutputPart,
    read_identity,
)
from provisioner.agent.watch import JobChanges
from provisioner.errors import AgentError, RigupError, UsageError
from remote_agent.protocol.job import JobRecord, JobSpec
from remote_agent.protocol.messages import Event, Reply, Request, encode_message, to_payload
from remote_agent.protocol.values import ProtocolError, Value

JOB = "llama-1121-041522-57f1"
OTHER = "other-1121-041522-57f1"
SPEC = JobSpec(JOB, "llama", ("python", "train.py"))


def record(job_id: str = JOB, **changes: Any) -> dict[str, Any]:
    spec = JobSpec(job_id, "llama", ("python", "train.py"))
    return dict(JobRecord(spec, "running", 1.0).to_json(), **changes)


def client(result: Any = None, payload: bytes = b"") -> AgentClient:
    """An agent that answers every request with this."""

    def answer(request: Request) -> bytes:
        return encode_message(Reply(request.id, result=result or {}, payload=payload))

    return AgentClient(ScriptedSession(encode_message(HELLO), answer), "evil", call_timeout_s=5)


Ask = Callable[[AgentClient], object]

ABOUT_ONE_JOB: dict[str, Ask] = {
    "submit": lambda agent: agent.submit(SPEC),
    "job": lambda agent: agent.job(JOB),
    "stop": lambda agent: agent.stop(JOB),
    "read_log": lambda agent: agent.read_log(JOB, 0),
}


@pytest.mark.parametrize("ask", ABOUT_ONE_JOB.values(), ids=ABOUT_ONE_JOB)
@pytest.mark.parametrize(
    "lie",
    [
        record(OTHER),
        record("x/../../.ssh/authorized_keys"),
        record("../../../x"),
        record(JOB + "\n"),
        record(started_at=1e300),
        record(log_bytes="much"),
        [],
        None,
        "running",
    ],
    ids=lambda lie: str(lie)[:40],
)
def test_a_record_of_another_job_or_of_nonsense_is_refused(ask: Ask, lie: object) -> None:
    with pytest.raises(AgentError, match="evil") as caught:
        ask(client({"record": lie, "offset": 0, "size": 0}))
    assert caught.value.code == "protocol"


@pytest.mark.parametrize(
    "place",
    [
        {"offset": 5, "size": 10},
        {"offset": -1, "size": 10},
        {"offset": 0, "size": -1},
        {"offset": "0", "size": 1},
        {"size": 1},
        {"offset": 0, "size": 1e300},
    ],
    ids=str,
)
def test_a_log_from_another_place_is_refused(place: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="evil"):
        client({"record": record(), **place}).read_log(JOB, 0)


def test_more_log_than_was_asked_for_is_refused() -> None:
    told = {"record": record(), "offset": 0, "size": 9}
    with pytest.raises(AgentError, match="evil"):
        client(told, b"x" * 9).read_log(JOB, 0, limit=8)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 10_000,
        to_payload([record(), record(started_at=1e300)]),
        to_payload([record("a/b")]),
        b"[" + b"{}," * 3_000_000 + b"{}]",
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_a_job_list_of_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(AgentError, match="evil"):
        client(payload=payload).jobs()


def _endless(pages: Callable[[Request], list[str]]) -> AgentClient:
    def answer(request: Request) -> bytes:
        rows = [{"path": path, "size": 1, "identity": "7:1:1:1:1"} for path in pages(request)]
        return encode_message(Reply(request.id, result={"more": True}, payload=to_payload(rows)))

    return AgentClient(ScriptedSession(encode_message(HELLO), answer), "evil", call_timeout_s=5)


@pytest.mark.parametrize(
    "pages",
    [
        lambda request: ["a"],
        lambda request: ["b", "a"],
        lambda request: ["a", "a"],
        lambda request: ["../a"],
        lambda request: ["/etc/passwd"],
    ],
)
def test_a_list_of_outputs_that_never_ends_or_leaves_is_refused(
    pages: Callable[[Request], list[str]],
) -> None:
    with pytest.raises(AgentError, match="evil"):
        _endless(pages).list_outputs(JOB)


def test_a_list_of_outputs_that_grows_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("provisioner.agent.client.OUTPUTS_PAGE", 1)
    monkeypatch.setattr("provisioner.agent.client.MAX_LISTING", 100_000)
    pages = _endless(lambda request: [str(request.args["after"] or "a") + "x"])
    with pytest.raises(AgentError, match=r"list of over [0-9]+ outputs is too large"):
        pages.list_outputs(JOB)


def test_a_list_of_outputs_in_crumbs_is_refused() -> None:
    pages = _endless(lambda request: [str(request.args["after"] or "a") + "x"])
    with pytest.raises(AgentError, match="too many parts"):
        pages.list_outputs(JOB)


def test_a_job_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(AgentError, match="a job twice"):
        client(payload=to_payload([record(), record()])).jobs()


def test_bytes_of_a_log_that_are_promised_and_never_come_are_refused() -> None:
    with pytest.raises(AgentError, match="none from byte 3 on"):
        client({"record": record(), "offset": 3, "size": 9}).read_log(JOB, 3)


def test_a_snapshot_stored_as_another_one_is_refused() -> None:
    with pytest.raises(AgentError, match="evil"):
        client({"digest": "0" * 64}).put_manifest(())


@pytest.mark.parametrize("lie", [{"f" * 64: 0}, {"a": -1}, [], 3], ids=str)
def test_content_that_nobody_offered_is_not_missing(lie: object) -> None:
    with pytest.raises(AgentError, match="evil"):
        client(payload=to_payload(lie)).missing_blobs(["a" * 64])


@pytest.mark.parametrize(
    "said",
    [
        b'{"type":"reply","id":"1","ok":true}\n',
        b'{"type":"reply","id":1,"ok":"yes"}\n',
        b'{"type":"reply","id":1,"ok":false,"error":[1]}\n',
        b'{"type":"reply","id":1,"ok":false,"error":{"code":1}}\n',
        b'{"type":"reply","id":1,"result":[]}\n',
        b'{"type":"reply","id":1,"result":{"a":' + b"[" * 10_000 + b"\n",
        b'{"type":"event","id":1,"kind":["x"]}\n',
        b'{"type":["reply"],"id":1}\n',
        b'{"type":"hello","protocol":1,"agent":"a","boot_id":"b"}\n',
        b'{"type":"reply","id":1,"payload":-1}\n',
        b'{"type":"reply","id":1,"payload":1e9}\n',
    ],
    ids=lambda said: repr(said[:50]),
)
def test_a_message_of_nonsense_ends_the_link_and_wakes_the_caller(said: bytes) -> None:
    session = ScriptedSession(encode_message(HELLO), lambda request: said)
    with pytest.raises(AgentError, match="evil"):
        AgentClient(session, "evil", call_timeout_s=5).jobs()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("jobs", b"{}"),
        ("jobs", b'{"changed":[{}],"removed":[]}'),
        ("jobs", b'{"changed":5,"removed":[]}'),
        ("jobs", b'{"changed":[],"removed":[[]]}'),
        ("sample", b"[]"),
        ("sample", b'{"taken_at":NaN,"host":{}}'),
        ("sample", b'{"taken_at":1,"host":{"cpu":"much"}}'),
        ("sample", b'{"taken_at":1,"host":{},"gpus":[{"index":-1,"uuid":"x","name":"y"}]}'),
        ("sample", b"[" * 10_000),
    ],
    ids=lambda said: repr(said)[:50],
)
def test_a_watch_that_is_told_nonsense_ends_with_an_error(kind: str, payload: bytes) -> None:
    def answer(request: Request) -> bytes:
        return encode_message(Event(request.id, kind, payload))

    agent = AgentClient(ScriptedSession(encode_message(HELLO), answer), "evil", call_timeout_s=5)
    watch = agent.watch()
    with pytest.raises(AgentError, match="evil"):
        watch.next(timeout_s=10)


@given(said=st.binary(min_size=1, max_size=200))
def test_no_bytes_hang_or_break_the_client(said: bytes) -> None:
    session = ScriptedSession(encode_message(HELLO), lambda request: said + b"\n")
    agent = AgentClient(session, "evil", call_timeout_s=0.2)
    with pytest.raises(RigupError):
        agent.jobs()
    agent.close()


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=15,
)
FIELDS = ("offset", "size", "blobs", "changed", "removed", "identity", "data", "hole", "sha256")


@pytest.mark.parametrize("kind", [LogPlace, MissingBlobs, JobChanges, OutputPart, OutputHash])
@given(data=st.dictionaries(st.sampled_from(FIELDS), ANY_JSON | st.binary(max_size=9)))
def test_no_answer_does_more_than_be_refused(kind: type[Value], data: dict[str, Any]) -> None:
    with suppress(ProtocolError):
        kind.from_json(data)


@given(text=st.text(max_size=60) | st.from_regex(r"[0-9:-]{0,60}", fullmatch=True))
def test_an_identity_is_five_numbers_or_refused(text: str) -> None:
    try:
        found = read_identity(text)
    except ProtocolError:
        return
    assert [int(part) for part in text.split(":")[2:4]] == [found.size, found.modified_ns]


def test_a_request_that_is_too_large_is_a_usage_error() -> None:
    spec = JobSpec(JOB, "llama", ("python", *["x" * 110_000] * 10))
    with pytest.raises(UsageError, match="too much for one request"):
        client().submit(spec)
