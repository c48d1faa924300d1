"""What rigup brought about on the hosts, read back from them, as the wanted state of its peers."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inventory import Host
from provisioner.home import known_hosts_file

WANTED, ANSIBLE_HOSTS = "state.json", "hosts.json"
PROBE = Path(__file__).with_name("probe.py")
CONNECTED = "-o ControlMaster=auto -o ControlPersist=60s"
"""Ansible's own default, which setting ssh arguments replaces."""

State = dict[str, dict[str, Any]]


def read_state(hosts: Sequence[Host], folder: Path) -> State:
    """By host name; the files' contents lie in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    return {host.name: _wanted(host, folder) for host in hosts}


def write_inventories(state: State, folder: Path) -> None:
    """The state itself (pyinfra's inventory reads it) and an Ansible inventory."""
    (folder / WANTED).write_text(json.dumps(state, indent=1))
    hosts = {name: _ansible_host(one) for name, one in state.items()}
    (folder / ANSIBLE_HOSTS).write_text(json.dumps({"all": {"hosts": hosts}}, indent=1))


def ssh_words(host: Host) -> list[str]:
    """A plain ssh to the host: pinned host keys, the inventory's identity."""
    return [
        "ssh",
        *("-o", f"UserKnownHostsFile={known_hosts_file()}", "-o", "BatchMode=yes"),
        *("-i", str(host.identity_file), "-p", str(host.port or 22)),
        f"{host.user}@{host.address}",
    ]


def _wanted(host: Host, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*ssh_words(host), "sudo", "python3", "-", str(host.user)],
        input=PROBE.read_bytes(),
        stdout=subprocess.PIPE,
        check=True,
    )
    state: dict[str, Any] = json.loads(done.stdout)
    for number, entry in enumerate([*state["root_files"], *state["user_files"]]):
        local = folder / f"{host.name}-{number}"
        local.write_bytes(base64.b64decode(entry.pop("content")))
        entry["local"] = str(local)
    return {
        **state,
        "address": host.address,
        "port": host.port or 22,
        "user": host.user,
        "identity": str(host.identity_file),
        "known_hosts": str(known_hosts_file()),
    }


def _ansible_host(wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "ansible_host": wanted["address"],
        "ansible_port": wanted["port"],
        "ansible_user": wanted["user"],
        "ansible_ssh_private_key_file": wanted["identity"],
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={wanted['known_hosts']} {CONNECTED}",
        "wanted": wanted,
    }
