"""Hosts, groups and their settings: plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Repository:
    """Where one vendor's packages come from, when not from the vendor itself.

    ``key_fingerprint`` pins the signing key (40 hex digits), so a mirror cannot swap it.
    """

    uri: str | None = None
    key_url: str | None = None
    key_fingerprint: str | None = None


@dataclass(frozen=True)
class Mirrors:
    """Overrides of vendor URLs for closed or slow networks; None means the vendor's own."""

    nvidia: Repository = field(default_factory=Repository)
    container_toolkit: Repository = field(default_factory=Repository)
    docker: Repository = field(default_factory=Repository)
    epel: Repository = field(default_factory=Repository)
    container_registry: str | None = None
    python_index: str | None = None
    model_hub: str | None = None
    http_proxy: str | None = None
    ca_certificates: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ContainerSettings:
    """How containers on a host are made. ``image`` None: chosen to fit the host's driver."""

    image: str | None = None
    mounts: tuple[str, ...] = ()
    shm_size: str | None = None


@dataclass(frozen=True)
class Host:
    """One machine. ``name`` is what users type; ``address`` is where it is (default: the name).

    Unset connection fields (None) are taken from the SSH configuration, as ``ssh`` would.
    ``python`` is the interpreter that process-runtime jobs use; ``state_dir`` is where the agent
    keeps jobs on the host, relative to the login user's home unless absolute. ``via`` is the
    inventory's host that ``jump`` names, None where ``jump`` is any other [user@]host[:port].
    ``docker_source`` is distro, vendor (Docker's repository) or auto: the distribution's where it
    has one. ``driver_source`` is vendor (NVIDIA's repository), distro (the distribution's own
    archive) or auto: the one that is there already, else vendor, except where Secure Boot takes
    only the archive's signed modules. ``workspace`` and ``data_directories`` are absolute paths
    that the login user shall own; ``docker_data_root`` is where Docker and containerd keep images,
    None for their default.
    """

    name: str
    address: str
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    jump: str | None = None
    via: Host | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    groups: tuple[str, ...] = ()
    python: str = "python3"
    state_dir: str = ".rigup"
    docker_source: str = "auto"
    driver_source: str = "auto"
    driver_branch: str | None = None
    docker_data_root: str | None = None
    workspace: str | None = None
    data_directories: tuple[str, ...] = ()
    mirrors: Mirrors = field(default_factory=Mirrors)
    container: ContainerSettings = field(default_factory=ContainerSettings)
    connect_timeout_s: float = 10.0
    command_timeout_s: float = 900.0
    from_ssh_config: bool = False


@dataclass(frozen=True)
class Group:
    """A named set of hosts; its settings are already merged into its hosts."""

    name: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """All hosts and groups of one file, in file order. ``source`` is None without a file.

    ``ssh_names`` are the concrete aliases of the SSH configuration, usable like hosts.
    """

    hosts: Mapping[str, Host]
    groups: Mapping[str, Group]
    source: Path | None = None
    ssh_names: frozenset[str] = frozenset()

    def select(
        self, *, hosts: str | None = None, group: str | None = None, everything: bool = False
    ) -> tuple[Host, ...]:
        """The hosts that ``--host a,b``, ``--group g`` or ``--all`` name, in file order.

        A name that is not in the file is looked up in the SSH configuration. Raises
        InventoryError for an unknown name (with the nearest known ones) or an empty choice.
        """
        from inventory.selection import select

        return select(self, hosts=hosts, group=group, everything=everything)
