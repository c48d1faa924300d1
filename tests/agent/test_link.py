"""The client's end against scripted peers: banners, old agents, silence, broken links."""

from __future__ import annotations

import pytest
from scripted_session import HELLO, ScriptedSession

from provisioner.agent.client import AgentClient
from provisioner.errors import AgentError, CommandTimeout, ConnectionLost
from remote_agent.protocol.messages import Hello, Reply, Request, encode_message


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


def test_silence_times_out():
    with pytest.raises(CommandTimeout):
        AgentClient(ScriptedSession(b""), "gpu01", call_timeout_s=0.01)


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
