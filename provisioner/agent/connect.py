"""Reach the agent in one round trip; deploy it first where it is missing or of another age."""

from __future__ import annotations

from provisioner.agent.bundle import build_bundle
from provisioner.agent.client import AgentClient
from provisioner.agent.deploy import DEFAULT_STATE_DIR, LOCATE, deploy, no_python
from provisioner.agent.link import CALL_TIMEOUT_S, AgentUnavailable
from provisioner.command import Command
from provisioner.transport.base import Transport

REDEPLOYABLE = ("absent", "other-protocol")

START = (
    LOCATE
    + r"""
agent=$dir/agent/$2.pyz
if [ ! -f "$agent" ]; then
  printf '{"type":"unavailable","reason":"absent"}\n'
elif ! command -v python3 >/dev/null; then
  printf '{"type":"unavailable","reason":"no-python"}\n'
else
  touch -c "$agent" 2>/dev/null
  exec python3 -I "$agent" serve --state-dir "$dir"
fi
"""
)


def open_agent(
    transport: Transport,
    state_dir: str = DEFAULT_STATE_DIR,
    *,
    call_timeout_s: float = CALL_TIMEOUT_S,
) -> AgentClient:
    """Start the agent of this version on the host and connect to it.

    One round trip when it is there already; otherwise it is deployed once and started again.
    ``state_dir`` is the inventory's :attr:`Host.state_dir`; ``call_timeout_s`` limits each answer
    of the agent. Raises TransportError and
    AgentError (``no-python``, ``other-protocol``, ``protocol``).
    """
    try:
        return _start(transport, state_dir, call_timeout_s)
    except AgentUnavailable as problem:
        if problem.code not in REDEPLOYABLE:
            raise no_python(transport.host_name, problem.message) from None
    deploy(transport, state_dir)
    return _start(transport, state_dir, call_timeout_s)


def _start(transport: Transport, state_dir: str, call_timeout_s: float) -> AgentClient:
    command = Command.sh(START, state_dir, build_bundle().digest)
    session = transport.open_session(command)
    return AgentClient(session, transport.host_name, call_timeout_s=call_timeout_s)
