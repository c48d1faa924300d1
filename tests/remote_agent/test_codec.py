"""Frames: any cutting of the stream gives the same messages, and nonsense is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_agent.protocol import codec
from remote_agent.protocol.codec import Decoder, Frame, encode, printable
from remote_agent.protocol.messages import (
    Event,
    Hello,
    Reply,
    Request,
    Unavailable,
    encode_message,
    parse_message,
)
from remote_agent.protocol.values import ProtocolError


@given(
    payloads=st.lists(st.binary(max_size=200), max_size=5),
    cuts=st.lists(st.integers(min_value=1, max_value=50), min_size=1, max_size=20),
)
def test_frames_survive_any_cutting(payloads, cuts):
    stream = b"".join(encode({"id": n}, data) for n, data in enumerate(payloads))
    decoder, frames, turn = Decoder(), [], 0
    while stream:
        size = cuts[turn % len(cuts)]
        frames += decoder.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    decoder.finish()
    assert [frame.payload for frame in frames] == payloads


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, "a", "b"),
        Unavailable("absent"),
        Request(1, "submit", {"x": "\udcff\n"}, b"\n{}\n"),
        Reply(2, False, {}, {"code": "x", "message": "y"}),
        Event(3, "sample", b"\0"),
    ],
)
def test_messages_come_back_equal(message):
    (frame,) = Decoder().feed(encode_message(message))
    assert parse_message(frame) == message


@pytest.mark.parametrize(
    ("stream", "shown"),
    [
        (b"Welcome to Ubuntu 24.04\x1b[0m\n", r"Welcome to Ubuntu 24.04\x1b[0m\n"),
        (b"bash: warning: setlocale", "bash: warning"),
        (b"{not json}\n", "{not json}"),
        (b"\n", r"\n"),
        (b"[1]\n", "[1]"),
        (b'{"payload":-1}\n', "-1"),
        (b'{"payload":"x"}\n', "'x'"),
        (b'{"payload":true}\n', "True"),
        (b'{"payload":99999999999}\n', "limit"),
    ],
)
def test_nonsense_is_named(stream, shown):
    with pytest.raises(ProtocolError) as caught:
        Decoder().feed(stream)
    assert shown in str(caught.value)


def test_a_header_cannot_grow_for_ever(monkeypatch):
    monkeypatch.setattr(codec, "MAX_HEADER", 100)
    with pytest.raises(ProtocolError, match="longer than 100"):
        Decoder().feed(b"{" + b"x" * 101)
    with pytest.raises(ProtocolError, match="limit"):
        encode({"text": "x" * 100})


def test_oversized_payload_is_refused_by_its_sender(monkeypatch):
    monkeypatch.setattr(codec, "MAX_PAYLOAD", 3)
    assert Decoder().feed(encode({}, b"123"))[0].payload == b"123"
    with pytest.raises(ProtocolError, match="limit"):
        encode({}, b"1234")


def test_end_in_the_middle_is_noticed():
    whole = encode({"id": 1}, b"12345")
    for cut in (1, len(whole) - 1):
        decoder = Decoder()
        decoder.feed(whole[:cut])
        with pytest.raises(ProtocolError, match="middle"):
            decoder.finish()


@pytest.mark.parametrize("header", [{"type": "dance"}, {}, {"type": "request"}, {"type": None}])
def test_unknown_or_incomplete_messages(header):
    with pytest.raises(ProtocolError):
        parse_message(Frame(header))


def test_newer_peers_may_add_keys():
    line = json.dumps({"type": "hello", "protocol": 1, "agent": "a", "boot_id": "b", "new": 1})
    (frame,) = Decoder().feed(line.encode() + b"\n")
    assert parse_message(frame) == Hello(1, "a", "b")


def test_printable_is_safe_and_short():
    assert printable(b"a\tb\x07\xc3\xa9\xff") == r"a\tb\x07é\xff"
    assert len(printable(b"x" * 10_000)) <= codec.SNIPPET + 1
