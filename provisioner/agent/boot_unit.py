"""A systemd user unit that lets queued jobs start after a boot, before anybody connects.

It needs no running user manager to be enabled: the symlink that `systemctl --user enable` would
make is part of it. It runs at boot only for root's own manager or a user who lingers (loginctl(1)).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from provisioner.agent.deploy import CURRENT, DEFAULT_STATE_DIR

UNITS = PurePosixPath(".config/systemd/user")

CONTENT = """\
# Written by `rigup provision`.
[Unit]
Description=rigup: start the queued jobs of {shown}
ConditionPathExists={agent}

[Service]
Type=simple
# The link is resolved once: the running agent must not change under a later deployment.
ExecStart=/bin/sh -c 'exec python3 -I "$$(readlink -f "$$1")" dispatch --state-dir "$$2"' sh \
  {agent_word} {state_dir_word}
# Only the dispatcher is this unit's: the jobs that it started outlive it.
KillMode=process
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class BootUnit:
    """``path`` and ``link`` are relative to the home directory; the unit is enabled once ``link``
    is a symlink that reads ``target``."""

    path: PurePosixPath
    content: str
    link: PurePosixPath
    target: str


def boot_unit(state_dir: str = DEFAULT_STATE_DIR) -> BootUnit:
    """The unit for the agent that keeps its files in ``state_dir`` (relative, or ``~/``: from the
    home directory), each directory with a unit of its own."""
    place = _in_unit(state_dir)
    name = _name(place)
    agent = f"{place}/agent/{CURRENT}"
    words = {"agent_word": _quoted(agent), "state_dir_word": _quoted(place)}
    content = CONTENT.format(shown=place, agent=agent, **words)
    link = UNITS / "default.target.wants" / name
    return BootUnit(UNITS / name, content, link, f"../{name}")


def _in_unit(state_dir: str) -> str:
    """As systemd.unit(5) writes it: ``%h`` is the home directory, ``%%`` a percent sign."""
    plain = state_dir.removeprefix("~/").rstrip("/").replace("%", "%%")
    return plain if state_dir.startswith("/") else f"%h/{plain}"


def _quoted(value: str) -> str:
    """One word of a command line; see systemd.service(5)."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _name(place: str) -> str:
    if place == f"%h/{DEFAULT_STATE_DIR}":
        return "rigup-agent.service"
    return f"rigup-agent-{hashlib.sha256(place.encode()).hexdigest()[:8]}.service"
