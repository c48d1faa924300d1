"""Find the inventory file and load it: defaults, groups and hosts merged into frozen values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from inventory import schema, values
from inventory.errors import InventoryError
from inventory.model import ContainerSettings, Group, Host, Inventory, Mirrors, Repository
from inventory.nodes import Node, parse
from inventory.reading import EXAMPLE
from inventory.ssh_config import ssh_config_names
from inventory.values import Section

ENVIRONMENT_VARIABLE = "RIGUP_INVENTORY"
DEFAULT_SSH_CONFIG = Path("~/.ssh/config")

_RENAMED = {"connect_timeout": "connect_timeout_s", "command_timeout": "command_timeout_s"}
_REPOSITORIES = ("nvidia", "container_toolkit", "docker", "epel")


def find_inventory(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The inventory to use, None where there is none (then only SSH-config names work).

    In this order: ``explicit`` (``--inventory``), ``$RIGUP_INVENTORY``, ``inventory/hosts.yaml``
    here, ``hosts.yaml`` and then ``lab/hosts.yaml`` under ``$RIGUP_HOME``. Raises InventoryError
    where one of the first two names a file that does not exist.
    """
    if explicit is not None:
        return _existing(explicit.expanduser(), "--inventory")
    if named := environ.get(ENVIRONMENT_VARIABLE):
        return _existing(Path(named).expanduser(), f"${ENVIRONMENT_VARIABLE}")
    home = Path(environ.get("RIGUP_HOME") or "~/.rigup").expanduser()
    candidates = (Path("inventory/hosts.yaml"), home / "hosts.yaml", home / "lab" / "hosts.yaml")
    return next((path for path in candidates if os.path.exists(path)), None)


def load_inventory(path: Path | None, *, ssh_config: Path = DEFAULT_SSH_CONFIG) -> Inventory:
    """Read and check one inventory file; None gives an inventory of SSH-config names only.

    A setting of a host wins over one of its groups, which wins over the defaults; among several
    groups of a host the one further down in the file wins. ``labels``, ``mirrors`` and
    ``container`` are merged key by key. Raises InventoryError for anything that is not right.
    """
    names = ssh_config_names(ssh_config.expanduser())
    if path is None:
        return Inventory(MappingProxyType({}), MappingProxyType({}), None, names)
    parts = _top_level(parse(path))
    hosts = _hosts(parts.get("hosts"))
    groups = _groups(parts.get("groups"), hosts)
    defaults = schema.defaults(parts["defaults"]) if "defaults" in parts else {}
    return Inventory(
        hosts=MappingProxyType(
            _with_jumps({name: _host(name, defaults, groups, hosts[name]) for name in hosts}, path)
        ),
        groups=MappingProxyType({g.name: Group(g.name, g.hosts) for g in groups}),
        source=path,
        ssh_names=names,
    )


@dataclass(frozen=True)
class _GroupEntry:
    name: str
    hosts: tuple[str, ...]
    settings: Section


def _existing(path: Path, origin: str) -> Path:
    if not os.path.exists(path):
        raise InventoryError(
            f"{origin} names a file that does not exist", path=path, remedy=EXAMPLE
        )
    return path


def _top_level(root: Node) -> dict[str, Node]:
    if root.kind == "nothing":
        raise root.error("the file is empty", remedy=EXAMPLE)
    keep = values.section({key: lambda node: node for key in schema.TOP_LEVEL})
    return keep(root)


def _hosts(node: Node | None) -> dict[str, Section]:
    """Host name to its own settings. A plain list of names does where none has settings."""
    if node is None:
        return {}
    if node.kind == "a list":
        return {name.raw: {} for name in values.names(node, "host")}
    return {values.name(key, "host"): schema.host(value) for key, value in node.entries()}


def _groups(node: Node | None, hosts: Mapping[str, Section]) -> list[_GroupEntry]:
    entries = node.entries() if node else []
    return [_group(values.name(key, "group"), value, hosts) for key, value in entries]


def _group(name: str, node: Node, hosts: Mapping[str, Section]) -> _GroupEntry:
    settings = schema.group(node)
    members: list[Node] = settings.pop("hosts", [])
    for member in members:
        if member.raw not in hosts:
            raise member.error(
                f"host {member.raw!r} is not under `hosts`",
                remedy=values.did_you_mean(member.raw, hosts) or f"add {member.raw}: under `hosts`",
            )
    return _GroupEntry(name, tuple(member.raw for member in members), settings)


def _host(name: str, defaults: Section, groups: list[_GroupEntry], own: Section) -> Host:
    mine = [group for group in groups if name in group.hosts]
    merged = _merge([defaults, *(group.settings for group in mine), own])
    fields = {_RENAMED.get(key, key): value for key, value in merged.items()}
    fields["labels"] = MappingProxyType(fields.get("labels", {}))
    fields["mirrors"] = _mirrors(fields.get("mirrors", {}))
    fields["container"] = ContainerSettings(**fields.get("container", {}))
    fields.setdefault("address", name)
    return Host(name=name, groups=tuple(group.name for group in mine), **fields)


def _with_jumps(hosts: Mapping[str, Host], path: Path) -> dict[str, Host]:
    """Hosts whose ``jump`` names another host of the file reach that one first; a host that is
    its own jump (set for a whole group) is reached directly."""
    return {name: _with_jump(hosts, name, (), path) for name in hosts}


def _with_jump(hosts: Mapping[str, Host], name: str, behind: tuple[str, ...], path: Path) -> Host:
    host = hosts[name]
    if host.jump == name:
        return replace(host, jump=None)
    if host.jump in (None, values.NO_JUMP) or host.jump not in hosts:
        return host
    if name in behind:
        circle = " -> ".join((*behind, name))
        raise InventoryError(
            f"jump hosts go round in a circle: {circle}",
            path=path,
            remedy="let one of them be reached directly",
        )
    return replace(host, via=_with_jump(hosts, host.jump, (*behind, name), path))


def _mirrors(section: Section) -> Mirrors:
    repositories = {key: Repository(**section.get(key, {})) for key in _REPOSITORIES}
    return Mirrors(**{**section, **repositories})


def _merge(layers: list[Section]) -> Section:
    """One section from several; later ones win, and mappings in them are merged in turn."""
    merged: Section = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                value = _merge([old, value])
            merged[key] = value
    return merged
