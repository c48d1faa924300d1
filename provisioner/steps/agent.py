"""The remote agent for the login user: deployed by hash, a Python that runs it, and lingering so
that its jobs outlive the last logout, and a boot unit for queued ones."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from inventory import Host
from provisioner.actions import Action, Run, run_checked
from provisioner.agent.boot_unit import BootUnit, boot_unit
from provisioner.agent.bundle import build_bundle
from provisioner.agent.deploy import deploy
from provisioner.command import Command
from provisioner.facts import AGENT, LOGIN, OS, PYTHON, Facts
from provisioner.platforms import platform_of
from provisioner.steps.base import Change, Outcome, Satisfied, listed
from provisioner.traces import Trace
from provisioner.transport.base import Transport

OLDEST_PYTHON = (3, 8)
LINK = 'mkdir -p -- "$(dirname -- "$1")" && ln -sfn -- "$2" "$1"'


@dataclass(frozen=True)
class DeployAgent:
    """Upload the agent beside older ones; running supervisors keep theirs."""

    state_dir: str
    digest: str
    label: str = "upload the agent"

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("directory", f"{self.state_dir}/agent", "rigup's own builds"),)

    def describe(self) -> str:
        return f"upload the agent as {self.state_dir}/agent/{self.digest[:12]}….pyz"

    def apply(self, transport: Transport) -> None:
        deploy(transport, self.state_dir)


@dataclass(frozen=True)
class EnableBootUnit:
    """A systemd user unit of the login user that starts queued jobs after a boot."""

    unit: BootUnit
    label: str = "enable the boot unit"

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("file", f"~/{self.unit.path}"), Trace("file", f"~/{self.unit.link}"))

    def describe(self) -> str:
        return f"write ~/{self.unit.path}, enable it as ~/{self.unit.link}"

    def apply(self, transport: Transport) -> None:
        transport.put(self.unit.content.encode(), self.unit.path)
        run_checked(transport, Command.sh(LINK, str(self.unit.link), self.unit.target))


class Agent:
    name = "agent"

    def check(self, facts: Facts, host: Host) -> Outcome:
        digest = build_bundle().digest
        reasons: list[str] = []
        actions: list[Action] = []
        python = facts[PYTHON].version
        if python is None or python < OLDEST_PYTHON:
            reasons.append("no Python 3.8 or newer")
            actions.extend(platform_of(facts[OS]).install("python3"))
        found = facts[AGENT]
        if digest not in found.builds:
            reasons.append("this version's agent is not on the host")
            actions.append(DeployAgent(host.state_dir, digest))
        login = facts[LOGIN]
        if facts[OS].systemd and not login.is_root and not login.lingers:
            reasons.append(f"jobs of {login.user} would end with the last logout (no lingering)")
            linger = Command.of("loginctl", "enable-linger", login.user, sudo=True)
            label = f"loginctl enable-linger {login.user}"
            actions.append(Run(linger, label, traces=(Trace("linger", login.user),)))
        unit = boot_unit(host.state_dir)
        if facts[OS].systemd and sha256(unit.content.encode()).hexdigest() not in found.boot_units:
            reasons.append("queued jobs would not start after a boot")
            actions.append(EnableBootUnit(unit))
        if reasons:
            return Change(listed(reasons), tuple(actions))
        return Satisfied(f"agent {digest[:12]}")
