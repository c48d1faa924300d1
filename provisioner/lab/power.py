"""What happens to machines: power lost, frozen, cut off from the network. For tests and demos."""

from __future__ import annotations

from pathlib import Path

from provisioner.errors import UsageError
from provisioner.lab.containers import LabHost, list_hosts, owner_of, wait_until_up
from provisioner.lab.docker import Docker

INTERFACE = "eth0"
DIRECTIONS = (("INPUT", "-i"), ("OUTPUT", "-o"))


def find_host(name: str, home: Path) -> LabHost:
    """The practice host of that name; UsageError, naming the known ones, when there is none."""
    hosts = {host.name: host for host in list_hosts(Docker(), owner_of(home))}
    if name not in hosts:
        known = ", ".join(hosts) or "none; `invoke lab.up` makes some"
        raise UsageError(f"no practice host {name!r}", remedy=f"known: {known}")
    return hosts[name]


def power_off(name: str, home: Path) -> None:
    """As pulling the plug: every process gone at once, disks kept."""
    Docker().run("kill", find_host(name, home).container)


def power_on(name: str, home: Path) -> None:
    """Boot again (a new boot id), and wait until the host is up."""
    docker, host = Docker(), find_host(name, home)
    docker.run("start", host.container)
    wait_until_up(docker, host)


def pause(name: str, home: Path) -> None:
    """Freeze every process; connections stay open and silent."""
    Docker().run("pause", find_host(name, home).container)


def unpause(name: str, home: Path) -> None:
    Docker().run("unpause", find_host(name, home).container)


def cut_network(name: str, home: Path) -> None:
    """Drop every packet from and to the host, silently; it keeps running. A reboot mends it."""
    _rules(name, home, "-I")


def restore_network(name: str, home: Path) -> None:
    """Undo :func:`cut_network`; connections that did not time out go on."""
    _rules(name, home, "-D")


def _rules(name: str, home: Path, action: str) -> None:
    docker, host = Docker(), find_host(name, home)
    for chain, direction in DIRECTIONS:
        rule = ("iptables", "-w", action, chain, direction, INTERFACE, "-j", "DROP")
        docker.run("exec", host.container, *rule)
