"""One container from nothing to ``ssh gpu01-torch``: image, container, host key, SSH alias."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from inventory import Host
from provisioner.command import Command
from provisioner.containers.build import PRACTICE_NOTE, build_local_image, with_ssh
from provisioner.containers.engine import (
    ContainerInfo,
    HostPlace,
    choose_port,
    down,
    list_containers,
    look_at_host,
    up,
)
from provisioner.containers.image_supply import practice_reason
from provisioner.containers.keys import client_public_keys
from provisioner.containers.resolver import resolve_image
from provisioner.containers.shipping import Progress, ensure_image, kept_as, silent
from provisioner.containers.spec import DEFAULT_SHM_SIZE, ContainerSpec, Mount
from provisioner.containers.ssh_fragment import (
    container_options,
    ensure_include,
    host_options,
    only_writer,
    remove_block,
    write_blocks,
)
from provisioner.errors import UsageError
from provisioner.mirrors import environment
from provisioner.transport.base import Transport
from provisioner.trust import pin, unpin

DEFAULT_NAME = "torch"

MISSING_PATHS = """
for path in "$@"; do [ -e "$path" ] || printf '%s\\n' "$path"; done
"""


@dataclass(frozen=True)
class HostGpus:
    """What chooses the image. ``compute_capabilities`` is empty on a host without a GPU;
    ``simulated`` GPUs compute nothing, so they get the practice image."""

    driver_version: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    simulated: bool = False
    indices: tuple[int, ...] = ()
    uuids: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        return bool(self.compute_capabilities)

    @property
    def usable(self) -> bool:
        return self.present and not self.simulated


@dataclass(frozen=True)
class Wish:
    """What the user asked. ``gpus`` None: all where there are any; ``image`` None: the
    inventory's, else chosen to fit; ``ssh_port`` None: the first free one."""

    name: str = DEFAULT_NAME
    image: str | None = None
    gpus: str | None = None
    ssh_port: int | None = None
    mounts: tuple[str, ...] = ()
    recreate: bool = False
    end_sessions: bool = False


def alias_of(host: Host, name: str = DEFAULT_NAME) -> str:
    """What the user types after ``ssh``."""
    return f"{host.name}-{name}"


def bring_up(
    host: Host,
    transport: Transport,
    gpus: HostGpus,
    wish: Wish | None = None,
    *,
    public_keys: Sequence[str] | None = None,
    progress: Progress = silent,
) -> ContainerInfo:
    """Make ``ssh <alias>`` work and return the container; nothing changes when it already does.

    Raises BlockedError (no image fits), UsageError (the container differs from the wish and
    ``recreate`` is not set), RigupError.
    """
    wish = wish or Wish()
    keys = public_keys if public_keys is not None else client_public_keys(host)
    check_gpus(host.name, wish.gpus, gpus)
    place = look_at_host(transport)
    mounts = parse_mounts(host, wish, place.home)
    check_mounts(transport, mounts)
    existing = list_containers(transport, place.login.uid)
    make_spec(host, place, gpus, wish, "any", existing)  # is all but the image in order?
    image = prepare_image(host, transport, gpus, wish.image, progress)
    spec = make_spec(host, place, gpus, wish, image, existing)
    progress(f"{host.name}: starting {spec.name}")
    info = up(transport, spec, keys, recreate=wish.recreate, end_sessions=wish.end_sessions)
    publish(host, info)
    return info


def take_down(
    host: Host, transport: Transport, name: str = DEFAULT_NAME, *, forget: bool = False
) -> bool:
    """Remove the container, its alias, and those of hosts that lead to no other; whether there was
    one. With ``forget`` also its home directory and host key."""
    existed = down(transport, name, look_at_host(transport).login.uid, forget=forget)
    remove_block(alias_of(host, name), [one.name for one in _way_to(host)])
    with only_writer():
        unpin(alias_of(host, name))
    return existed


def prepare_image(
    host: Host,
    transport: Transport,
    gpus: HostGpus,
    wanted: str | None,
    progress: Progress = silent,
) -> str:
    """An image on the host that can be logged in to: the wanted one, the inventory's, the newest
    that fits its GPUs, or without a GPU the practice image (CPU only), sent from here."""
    chosen = wanted or host.container.image
    if chosen is None and not gpus.usable:
        progress(
            f"{host.name}: {practice_reason(gpus)}: using the practice image ({PRACTICE_NOTE})"
        )
        local = build_local_image(progress)
        ensure_image(transport, local, pullable=False, progress=progress)
        return local
    if chosen is None:
        choice = resolve_image(gpus.driver_version, gpus.compute_capabilities)
        progress(f"{host.name}: {choice.image}: {choice.reason}")
        chosen = choice.image
    mirror = host.mirrors.container_registry
    chosen = kept_as(chosen, mirror)
    ensure_image(transport, chosen, mirror=mirror, progress=progress)
    return with_ssh(transport, chosen, host.mirrors, progress)


def make_spec(
    host: Host,
    place: HostPlace,
    gpus: HostGpus,
    wish: Wish,
    image: str,
    existing: Iterable[ContainerInfo],
) -> ContainerSpec:
    """The whole specification, from the wish, the inventory and the host."""
    state_dir = place.home / host.state_dir
    return ContainerSpec(
        name=wish.name,
        image=image,
        login=place.login,
        ssh_port=wish.ssh_port or choose_port(wish.name, place, existing),
        keys_dir=state_dir / "containers" / wish.name,
        gpus=wish.gpus or ("all" if gpus.compute_capabilities else "none"),
        mounts=parse_mounts(host, wish, place.home),
        shm_size=host.container.shm_size or DEFAULT_SHM_SIZE,
        environment=tuple(environment(host.mirrors).items()),
        host_name=host.name,
        large_limits=place.can_raise_limits,
    )


def check_gpus(host: str, asked: str | None, there: HostGpus) -> None:
    """Raises UsageError for GPUs that the host does not have."""
    if asked in (None, "none"):
        return
    known = {str(index) for index in there.indices} | set(there.uuids)
    if asked == "all":
        known |= {"all"} if there.indices else set()
    missing = [name for name in str(asked).split(",") if name and name not in known]
    if not missing:
        return
    indices = ", ".join(map(str, there.indices))
    has = f"it has {indices}" if indices else "it has no GPU"
    raise UsageError(
        f"GPU {', '.join(missing)} does not exist on {host} ({has})",
        host=host,
        remedy="--gpus all, --gpus none, or indices from that list",
    )


def parse_mounts(host: Host, wish: Wish, home: PurePosixPath) -> tuple[Mount, ...]:
    """Of the inventory and the wish. Raises UsageError."""
    texts = (*host.container.mounts, *wish.mounts)
    return tuple(Mount.parse(_at_home(text, home)) for text in texts)


def check_mounts(transport: Transport, mounts: Sequence[Mount]) -> None:
    """Raises UsageError that names the folders which are not on the host."""
    sources = [mount.source for mount in mounts if mount.source.startswith("/")]
    if not sources:
        return
    answer = transport.run(Command.sh(MISSING_PATHS, *sources))
    missing = answer.text.splitlines()
    if missing or not answer.ok:
        raise UsageError(
            f"not on the host, so it cannot be mounted: {', '.join(missing) or 'unknown'}",
            host=transport.host_name,
            remedy="make the folder on the host first, or correct the mount",
        )


def publish(host: Host, info: ContainerInfo) -> None:
    """Pin the container's host keys and write the aliases of host and container. Safe for several
    hosts at once."""
    alias = alias_of(host, info.name)
    with only_writer():
        pin(alias, info.host_keys)
    blocks = {one.name: host_options(one) for one in _way_to(host)}
    write_blocks({**blocks, alias: container_options(host, alias, info.user, info.ssh_port)})
    ensure_include()


def _way_to(host: Host) -> tuple[Host, ...]:
    """The host and the inventory's jump hosts before it, nearest to us last."""
    return (host,) if host.via is None else (host, *_way_to(host.via))


def _at_home(mount: str, home: PurePosixPath) -> str:
    return f"{home}/{mount[2:]}" if mount.startswith("~/") else mount
