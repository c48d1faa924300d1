"""The jump hosts on the way to a host."""

from __future__ import annotations

from inventory import Host
from provisioner.errors import UsageError
from provisioner.transport.target import Target, parse_jump, resolve

MOST_HOPS = 8


def hops(host: Host) -> list[Host]:
    """Every host that is logged in to on the way, outermost first, ``host`` itself last.

    Raises UsageError where they go round in a circle, as ``ProxyJump`` under ``Host *`` can.
    """
    way = [host]
    while (jump := before(way[0], resolve(way[0]))) is not None:
        way.insert(0, jump)
        check_length(host, len(way))
    return way


def before(host: Host, target: Target) -> Host | None:
    """The last jump host before ``host``, None where it is reached directly. ``target`` is what
    ``host`` resolves to."""
    if target.jump is None:
        return None
    return host.via or _plain(host, target.jump)


def check_length(host: Host, length: int) -> None:
    if length > MOST_HOPS:
        raise UsageError(
            f"more than {MOST_HOPS} jump hosts on the way: do they go round in a circle?",
            host=host.name,
            remedy="`jump: none` in the inventory, or `ProxyJump none` in the SSH configuration, "
            "for the host that is reached directly",
        )


def _plain(host: Host, jump: str) -> Host:
    """A jump host that is no host of the inventory."""
    first, _, last = jump.rpartition(",")
    user, address, port = parse_jump(last)
    return Host(
        name=address,
        address=address,
        user=user,
        port=port,
        identity_file=host.identity_file if not host.from_ssh_config else None,
        jump=first or None,
        connect_timeout_s=host.connect_timeout_s,
        from_ssh_config=True,
    )
