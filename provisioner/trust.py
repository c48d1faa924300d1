"""Pinning host keys: the one place that adds to rigup's known_hosts file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inventory import Host
from provisioner.errors import HostKeyChanged
from provisioner.home import known_hosts_file, write_private
from provisioner.transport.known_hosts import fingerprint, pinned_keys
from provisioner.transport.ssh import HostKey, scan_host_key
from provisioner.transport.target import resolve


@dataclass(frozen=True)
class Offer:
    """The key a host offers, and whether that very key is pinned already."""

    host: Host
    key: HostKey
    known_hosts_name: str
    is_pinned: bool

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key[1])


def offered_key(host: Host, *, replace: bool = False) -> Offer:
    """Ask the host for its key without logging in.

    Raises HostKeyChanged when another key is pinned and ``replace`` is not set; ConnectError
    when the host cannot be reached.
    """
    target = resolve(host)
    pinned = pinned_keys(target)
    key = scan_host_key(host)
    is_pinned = pinned.get(key[0]) == key[1]
    if pinned and not is_pinned and not replace:
        shown = ", ".join(fingerprint(text) for text in pinned.values())
        raise HostKeyChanged(
            f"another host key is pinned ({shown}); the host now offers {fingerprint(key[1])}",
            host=host.name,
            remedy="ask whoever runs the host; if it was reinstalled: "
            f"invoke trust --host {host.name} --replace",
        )
    return Offer(host, key, target.known_hosts_name, is_pinned)


def pin(name: str, keys: Sequence[HostKey]) -> None:
    """File ``keys`` under a known_hosts name, in place of whatever was filed under it."""
    path = known_hosts_file()
    old = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in old if line.partition(" ")[0] != name]
    added = [f"{name} {kind} {text}" for kind, text in keys]
    write_private(path, ("\n".join([*kept, *added]) + "\n").encode())


def unpin(name: str) -> None:
    """Forget every key filed under a known_hosts name."""
    if known_hosts_file().exists():
        pin(name, ())
