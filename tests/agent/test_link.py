"""The client's end against scripted peers: banners, old agents, silence, broken links."""

from __future__ import annotations

import queue

import pytest

from provisioner.agent import link as link_module
from provisioner.agent.client import AgentClient
from provisioner.errors import AgentError, CommandTimeout, ConnectionLost
from remote_agent.protocol.codec import Decoder
from remote_agent.protocol.messages import Hello, Reply, Request, encode_message, parse_message

HELLO = Hello(1, "a" * 64, "boot")


class ScriptedSession:
    """Says ``opening``; answers each request with ``answer(request)``, bytes or None."""

    def __init__(self, opening: bytes, answer=lambda request: b"") -> None:  # type: ignore[no-untyped-def]
        self._incoming: queue.Queue[bytes] = queue.Queue()
        self._answer = answer
        self._decoder = Decoder()
        self.closed = False
        if opening:
            self._incoming.put(opening)

    def read(self, limit: int = 65536) -> bytes:
        return self._incoming.get()

    def write(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            message = parse_message(frame)
            assert isinstance(message, Request)
            answer = self._answer(message)
            if answer is not None:
                self._incoming.put(answer)

    def stderr_tail(self) -> str:
        return "Segmentation fault"

    def exit_code(self) -> int | None:
        return 139

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._incoming.put(b"")


def test_login_banner_is_shown_escaped():
    session = ScriptedSession(b"\x1b[1mWelcome to gpu01!\r\nIt is \xff Monday\n")
    with pytest.raises(AgentError) as caught:
        AgentClient(session, "gpu01")
    assert r"\x1b[1mWelcome to gpu01!\r\n" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert ".bashrc" in str(caught.value.remedy)
    assert session.closed


def test_end_before_hello_shows_stderr_and_exit_code():
    with pytest.raises(ConnectionLost, match="Segmentation fault") as caught:
        AgentClient(_ended(), "gpu01")
    assert "139" in str(caught.value)


def _ended() -> ScriptedSession:
    session = ScriptedSession(b"")
    session._incoming.put(b"")
    return session


def test_other_protocol_is_refused():
    with pytest.raises(AgentError) as caught:
        AgentClient(ScriptedSession(encode_message(Hello(99, "b", "boot"))), "gpu01")
    assert caught.value.code == "other-protocol"


def test_silence_times_out(monkeypatch):
    monkeypatch.setattr(link_module, "HELLO_TIMEOUT_S", 0.01)
    with pytest.raises(CommandTimeout):
        AgentClient(ScriptedSession(b""), "gpu01")


def test_call_times_out_and_the_link_lives_on():
    def answer(request: Request) -> bytes | None:
        return None if request.op == "job" else encode_message(Reply(request.id, payload=b"[]"))

    client = AgentClient(ScriptedSession(encode_message(HELLO), answer), "gpu01")
    with pytest.raises(CommandTimeout, match="`job`"):
        client._link.call("job", timeout_s=0.01)
    assert client.jobs() == ()
    client.close()


def test_refusal_carries_the_agents_code():
    def answer(request: Request) -> bytes:
        return encode_message(
            Reply(request.id, ok=False, error={"code": "no-such-job", "message": "no job x"})
        )

    client = AgentClient(ScriptedSession(encode_message(HELLO), answer), "gpu01")
    with pytest.raises(AgentError, match="gpu01: no job x") as caught:
        client.job("x")
    assert caught.value.code == "no-such-job"
    client.close()


def test_nonsense_in_the_middle_ends_the_link():
    client = AgentClient(
        ScriptedSession(encode_message(HELLO), lambda request: b"kernel panic!\n"), "gpu01"
    )
    with pytest.raises(AgentError, match="kernel panic!") as caught:
        client.jobs()
    assert caught.value.code == "protocol"
    with pytest.raises(AgentError):
        client.jobs()


def test_calls_after_close_fail_and_close_twice_is_fine():
    client = AgentClient(ScriptedSession(encode_message(HELLO)), "gpu01")
    client.close()
    client.close()
    with pytest.raises(ConnectionLost):
        client.jobs()
