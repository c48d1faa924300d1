"""Which hosts a command is for: ``--host a,b``, ``--group g`` or ``--all``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from inventory.errors import InventoryError
from inventory.model import Host
from inventory.values import did_you_mean

if TYPE_CHECKING:
    from inventory.model import Inventory

NAMES_SHOWN = 12


def select(
    inventory: Inventory,
    *,
    hosts: str | None = None,
    group: str | None = None,
    everything: bool = False,
) -> tuple[Host, ...]:
    """The chosen hosts without repeats, in file order; SSH-config names follow as given.

    Exactly one way of choosing may be used; with none, the only host of the inventory is meant.
    Raises InventoryError for an unknown name, several ways at once, or an empty choice.
    """
    if (hosts is not None) + (group is not None) + everything > 1:
        raise InventoryError("--host, --group and --all exclude each other", remedy="use one")
    if hosts is not None:
        return _named(inventory, hosts)
    if group is not None:
        return _in_group(inventory, group)
    return _all(inventory) if everything else _only(inventory)


def _named(inventory: Inventory, text: str) -> tuple[Host, ...]:
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise InventoryError(
            f"an empty name in --host {text!r}", remedy="--host gpu01 or --host gpu01,gpu02"
        )
    chosen = {name: _find(inventory, name) for name in names}
    order = {name: place for place, name in enumerate(inventory.hosts)}
    return tuple(sorted(chosen.values(), key=lambda host: order.get(host.name, len(order))))


def _find(inventory: Inventory, name: str) -> Host:
    if name in inventory.hosts:
        return inventory.hosts[name]
    if name in inventory.ssh_names:
        return Host(name=name, address=name, from_ssh_config=True)
    raise _unknown_host(inventory, name)


def _unknown_host(inventory: Inventory, name: str) -> InventoryError:
    if name in inventory.groups:
        remedy: str | None = f"{name} is a group: --group {name}"
    else:
        remedy = did_you_mean(name, {*inventory.hosts, *inventory.ssh_names})
    place = inventory.source or "an inventory file (none was found)"
    return InventoryError(
        f"no host named {name!r} in the inventory or the SSH configuration",
        path=inventory.source,
        remedy=remedy or f"add it to {place}; {_known('hosts', inventory.hosts)}",
    )


def _in_group(inventory: Inventory, name: str) -> tuple[Host, ...]:
    if name not in inventory.groups:
        known = _known("groups", inventory.groups)
        raise InventoryError(
            f"no group named {name!r}",
            path=inventory.source,
            remedy=did_you_mean(name, inventory.groups) or known,
        )
    members = inventory.groups[name].hosts
    if not members:
        raise InventoryError(
            f"group {name!r} has no hosts",
            path=inventory.source,
            remedy=f"list some under groups.{name}.hosts",
        )
    return tuple(host for host in inventory.hosts.values() if host.name in members)


def _all(inventory: Inventory) -> tuple[Host, ...]:
    if not inventory.hosts:
        raise _no_hosts(inventory)
    return tuple(inventory.hosts.values())


def _only(inventory: Inventory) -> tuple[Host, ...]:
    if not inventory.hosts:
        raise _no_hosts(inventory)
    if len(inventory.hosts) > 1:
        raise InventoryError(
            "which host?",
            path=inventory.source,
            remedy=f"--host NAME, --group NAME or --all; {_known('hosts', inventory.hosts)}",
        )
    return tuple(inventory.hosts.values())


def _no_hosts(inventory: Inventory) -> InventoryError:
    if inventory.source is None:
        remedy = (
            "copy inventory/hosts.example.yaml to inventory/hosts.yaml and list your hosts, "
            "or name one from your SSH configuration: --host NAME"
        )
        return InventoryError("there is no inventory file", remedy=remedy)
    return InventoryError(
        "the inventory has no hosts", path=inventory.source, remedy="list some under `hosts`"
    )


def _known(what: str, names: Mapping[str, object]) -> str:
    shown = list(names)[:NAMES_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"known {what}: {', '.join(shown) or 'none'}{more}"
