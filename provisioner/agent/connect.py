"""Reach the agent in one round trip; deploy it first where it is missing, damaged or of another
age."""

from __future__ import annotations

from provisioner.agent.bundle import build_bundle
from provisioner.agent.client import AgentClient
from provisioner.agent.deploy import DEFAULT_STATE_DIR, LOCATE, deploy, no_python
from provisioner.agent.link import CALL_TIMEOUT_S, AgentUnavailable
from provisioner.command import Command
from provisioner.errors import AgentError
from provisioner.transport.base import Transport

REDEPLOYABLE = ("absent", "damaged", "other-protocol")

START = (
    LOCATE
    + r"""
agent=$dir/agent/$2.pyz
if [ ! -f "$agent" ]; then
  printf '{"type":"unavailable","reason":"absent"}\n'
elif command -v sha256sum >/dev/null && [ "$(sha256sum "$agent" | cut -c1-64)" != "$2" ]; then
  printf '{"type":"unavailable","reason":"damaged"}\n'
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

    One round trip when it is there already and its content is what its name says; otherwise it
    is deployed once and started again. ``state_dir`` is the inventory's :attr:`Host.state_dir`;
    ``call_timeout_s`` limits each answer of the agent. Raises TransportError and AgentError
    (``no-python``, ``state-dir``, ``damaged``, ``other-protocol``, ``protocol``).
    """
    try:
        return _start(transport, state_dir, call_timeout_s)
    except AgentUnavailable as problem:
        if problem.code not in REDEPLOYABLE:
            raise _explained(problem, transport.host_name, state_dir) from None
    deploy(transport, state_dir)
    try:
        return _start(transport, state_dir, call_timeout_s)
    except AgentUnavailable as problem:
        raise _explained(problem, transport.host_name, state_dir) from None


def _start(transport: Transport, state_dir: str, call_timeout_s: float) -> AgentClient:
    command = Command.sh(START, state_dir, build_bundle().digest)
    session = transport.open_session(command)
    return AgentClient(session, transport.host_name, call_timeout_s=call_timeout_s)


def _explained(problem: AgentUnavailable, host: str, state_dir: str) -> AgentError:
    if problem.code == "no-python":
        return no_python(host, problem.message)
    if problem.code == "state-dir":
        return AgentError(
            f"the agent cannot use its state directory: {problem.detail}",
            code="state-dir",
            host=host,
            remedy=f"look at that directory and its disk on the host (`df -h`, `mount`, `ls -ld "
            f"~`), or set another state_dir than {state_dir} in the inventory",
        )
    if problem.code == "damaged":
        return AgentError(
            "the agent's file is damaged again as soon as it is uploaded",
            code="damaged",
            host=host,
            remedy="check the host's disk: `df -h`, and `dmesg` for I/O errors",
        )
    return problem
