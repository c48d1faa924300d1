"""Pinning host keys: the one place that adds to rigup's known_hosts file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inventory import Host
from provisioner.errors import BlockedError, HostKeyChanged, RigupError
from provisioner.home import known_hosts_file, locked, write_private
from provisioner.parallel import as_rigup_error, each
from provisioner.transport.jumps import MOST_HOPS, hops
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


Review = Callable[[Offer], None]


def settle(
    hosts: Sequence[Host], review: Review, *, replace: bool = False
) -> list[tuple[Host, None, RigupError | None]]:
    """Have ``review`` pin every host's key, or refuse it by raising a RigupError: that is the
    host's result then, and the other hosts go on.

    All hosts are asked for their keys at once; ``review`` sees each key once, one at a time. A
    jump host's key comes before that of the host behind it, which cannot be asked before.
    """
    errors: dict[str, RigupError | None] = {}
    seen: set[tuple[str, ...]] = set()
    waiting = list(hosts)
    for _ in range(MOST_HOPS):
        for host, offers, error in each(waiting, lambda host: _attempt(host, replace)):
            error = error or _refusal(host, offers, review, seen)
            if error is not None or offers[-1].host == host:
                errors[host.name] = error
        waiting = [host for host in waiting if host.name not in errors]
    stuck = BlockedError("the key of a jump host on the way was not pinned")
    return [(host, None, errors.get(host.name, stuck)) for host in hosts]


def offered_keys(host: Host, *, replace: bool = False) -> list[Offer]:
    """What the hosts on the way offer, outermost first: up to the first that is not pinned,
    behind which nothing can be asked; ``host`` itself comes last.

    Raises what :func:`offered_key` raises.
    """
    offers: list[Offer] = []
    for hop in hops(host):
        offers.append(offered_key(hop, replace=replace, asked_for=host.name))
        if not offers[-1].is_pinned:
            break
    return offers


def offered_key(host: Host, *, replace: bool = False, asked_for: str | None = None) -> Offer:
    """Ask the host for its key without logging in.

    Raises HostKeyChanged when another key is pinned and ``replace`` is not set; ConnectError
    when the host cannot be reached. ``asked_for`` names the inventory's host, where ``host`` is a
    jump host on the way to it.
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
            f"invoke trust --host {asked_for or host.name} --replace",
        )
    return Offer(host, key, target.known_hosts_name, is_pinned)


def pin(name: str, keys: Sequence[HostKey]) -> None:
    """File ``keys`` under a known_hosts name, in place of whatever was filed under it."""
    path = known_hosts_file()
    with locked(path):
        old = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in old if line.partition(" ")[0] != name]
        added = [f"{name} {kind} {text}" for kind, text in keys]
        write_private(path, ("\n".join([*kept, *added]) + "\n").encode())


def unpin(name: str) -> None:
    """Forget every key filed under a known_hosts name."""
    if known_hosts_file().exists():
        pin(name, ())


def _attempt(host: Host, replace: bool) -> tuple[Host, list[Offer], RigupError | None]:
    try:
        return host, offered_keys(host, replace=replace), None
    except Exception as error:
        return host, [], as_rigup_error(error, host.name)


def _refusal(
    host: Host, offers: list[Offer], review: Review, seen: set[tuple[str, ...]]
) -> RigupError | None:
    for offer in offers:
        identity = (offer.host.name, offer.known_hosts_name, *offer.key)
        if identity in seen:
            continue
        try:
            review(offer)
        except RigupError as error:
            return as_rigup_error(error, host.name)
        seen.add(identity)
    return None
