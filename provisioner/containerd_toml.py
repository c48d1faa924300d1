"""Where containerd keeps images: Docker 29 and newer leave them to it (docs: storage/containerd),
so that Docker's data-root alone does not move them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.daemon_json import KeyConflict
from provisioner.facts.docker import DockerFacts
from provisioner.traces import Trace
from provisioner.transport.base import Transport
from provisioner.transport.upload import put_command

PATH = PurePosixPath("/etc/containerd/config.toml")
NEW_FILE = "version = 2\n"
"""containerd 1.6 to 2.x read this version."""
ROOT = re.compile(r"^\s*root\s*=\s*(?P<value>.*?)\s*(#.*)?$", re.M)


@dataclass(frozen=True)
class ConfigureContainerd:
    """Set containerd's root, nothing else, and restart it."""

    root: str
    content: str
    label: str = "set containerd's root"

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("command", f"set root to {self.root} in {PATH}"),)

    def describe(self) -> str:
        return f"set root = {json.dumps(self.root)} in {PATH}, systemctl restart containerd.service"

    def apply(self, transport: Transport) -> None:
        run_checked(transport, put_command(self.content.encode(), PATH, mode=0o644, sudo=True))
        restart = Command.of("systemctl", "restart", "containerd.service", sudo=True, timeout_s=180)
        run_checked(transport, restart)


def containerd_action(docker: DockerFacts, host: Host) -> ConfigureContainerd | None:
    """None where nothing is to be done. Raises KeyConflict for a root that somebody else set."""
    if host.docker_data_root is None or not docker.containerd_store:
        return None
    root = f"{host.docker_data_root}/containerd-root"
    content = with_root(docker.containerd_config, root)
    return None if content is None else ConfigureContainerd(root, content)


def with_root(text: str | None, root: str) -> str | None:
    """``text`` (None: no file) with that root, None where it has it already."""
    value = json.dumps(root)
    top, tables = _split(NEW_FILE if text is None else text)
    found = ROOT.search(top)
    if found is None:
        return f"{top}root = {value}\n{tables}"
    if found["value"].strip("\"'") == root:
        return None
    raise KeyConflict(f"root in {PATH}", found["value"])


def _split(text: str) -> tuple[str, str]:
    """Top-level keys stand before the first table."""
    first = re.search(r"^[ \t]*\[", text, re.M)
    end = len(text) if first is None else first.start()
    return text[:end], text[end:]
