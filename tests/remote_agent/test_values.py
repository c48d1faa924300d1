"""What crosses the wire is checked for type, range and length; nonsense is a ProtocolError."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_agent.protocol.codec import Decoder
from remote_agent.protocol.job import JobRecord, JobSpec, Verdict
from remote_agent.protocol.messages import (
    KINDS,
    Hello,
    Reply,
    from_payload,
    parse_message,
    rows_from_payload,
)
from remote_agent.protocol.sample import GpuSample, HostSample, Sample
from remote_agent.protocol.snapshot import OutputFile, SnapshotEntry, check_entries
from remote_agent.protocol.values import MAX_TOKENS, ProtocolError, parse_json

SPEC = JobSpec("llama-1121", "llama", ("python", "train.py"), env={"A": "1"}, gpus=2)
RECORD = JobRecord(SPEC, "failed", 1.0, 2.0, 3.0, "boot", 7, (0, 1), 5, Verdict("exit-code", 3))
SAMPLE = Sample(1.0, HostSample(cpu=3.5), (GpuSample(0, "GPU-0", "H100", utilization=5),))
VALUES = [SPEC, RECORD, SAMPLE, Hello(1, "a", "b"), Reply(1), OutputFile("a/b", 3, 1.0)]
KINDS_OF_VALUES = [type(value) for value in VALUES] + [SnapshotEntry]

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_as_they_were(value):
    plain = {name: what for name, what in value.to_json().items() if name != "payload"}
    assert type(value).from_json(json.loads(json.dumps(plain))) == value


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"started_at": 1e300}, "started_at"),
        ({"started_at": 10**400}, "started_at"),
        ({"created_at": -(10**400)}, "created_at"),
        ({"log_bytes": 10**400}, "log_bytes"),
        ({"started_at": float("nan")}, "started_at"),
        ({"started_at": -1.0}, "started_at"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"created_at": None}, "created_at"),
        ({"created_at": True}, "created_at"),
        ({"log_bytes": -1}, "log_bytes"),
        ({"log_bytes": 1 << 70}, "log_bytes"),
        ({"log_bytes": 5.5}, "log_bytes"),
        ({"gpu_ids": {}}, "gpu_ids"),
        ({"gpu_ids": ["0"]}, "gpu_ids"),
        ({"state": "exploded"}, "state"),
        ({"state": ["failed"]}, "state"),
        ({"verdict": "fine"}, "Verdict"),
        ({"verdict": {}}, "cause"),
        ({"spec": None}, "JobSpec"),
        ({"spec": {"job_id": "x/../../..", "name": "x", "argv": []}}, "job id"),
        ({"spec": {"job_id": "abc\n", "name": "x", "argv": []}}, "job id"),
        ({"spec": {"job_id": "abc", "name": "x", "argv": "rm"}}, "argv"),
        ({"spec": {"job_id": "abc", "name": "x", "argv": [], "env": {"A": 1}}}, "env"),
    ],
    ids=str,
)
def test_a_record_of_wrong_values_is_refused(changes, named):
    with pytest.raises(ProtocolError, match=named):
        JobRecord.from_json(dict(RECORD.to_json(), **changes))


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".", "a/.", "a\0b"], ids=repr
)
def test_a_path_that_leaves_its_directory_is_refused(path):
    with pytest.raises(ProtocolError):
        OutputFile.from_json({"path": path, "size": 1})
    with pytest.raises(ProtocolError):
        check_entries([SnapshotEntry(path, digest="a" * 64)])


@given(data=ANY_JSON)
@pytest.mark.parametrize("kind", KINDS_OF_VALUES)
def test_no_json_does_more_than_be_refused(kind, data):
    with contextlib.suppress(ProtocolError):
        kind.from_json(data)


@given(changes=st.dictionaries(st.sampled_from(sorted(RECORD.to_json())), ANY_JSON, max_size=3))
def test_no_change_of_a_record_does_more_than_be_refused(changes):
    try:
        record = JobRecord.from_json(dict(RECORD.to_json(), **changes))
    except ProtocolError:
        return
    assert all(0 <= (moment or 0) < 1e12 for moment in (record.started_at, record.ended_at))


@given(header=st.dictionaries(st.sampled_from(["type", "id", "ok", "result", "payload"]), ANY_JSON))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_header_does_more_than_be_refused(kind, header):
    line = json.dumps(dict({"type": kind}, **header)).encode() + b"\n"
    with contextlib.suppress(ProtocolError):
        for frame in Decoder().feed(line):
            parse_message(frame)


@given(data=st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data):
    for read in (Decoder().feed, from_payload, rows_from_payload):
        with contextlib.suppress(ProtocolError):
            read(data)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000,
        b"NaN",
        b"[Infinity]",
        b"{",
        b"\xff",
        b"[" + b"[]," * MAX_TOKENS + b"1]",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_document_that_is_no_json_or_too_large_is_refused(text):
    with pytest.raises(ProtocolError):
        parse_json(text)


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(ProtocolError, match="taken_at"):
        Sample.from_json(from_payload(b'{"taken_at": 1e999, "host": {}}'))
