"""One answer that cannot be sent fails alone."""

from __future__ import annotations

from remote_agent.protocol import codec
from remote_agent.protocol.messages import Reply, encode_message
from remote_agent.server import Server


class Wire:
    def __init__(self):
        self.sent = []

    def send(self, message):
        encode_message(message)
        self.sent.append(message)


def test_a_too_large_answer_is_an_error_of_its_request(monkeypatch):
    monkeypatch.setattr(codec, "MAX_PAYLOAD", 100)
    server = Server.__new__(Server)
    server._wire = Wire()
    server._reply(Reply(7, payload=b"x" * 101))
    server._reply(Reply(8, payload=b"x"))
    first, second = server._wire.sent
    assert (first.id, first.ok, first.error["code"]) == (7, False, "too-large")
    assert (second.id, second.ok) == (8, True)
