"""Container commands for an inventory host: connect, look at its GPUs, act, hang up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inventory import Host
from provisioner.containers import engine, facade, services
from provisioner.containers.activity import Activity, look_inside, require_unused
from provisioner.containers.engine import ContainerInfo
from provisioner.containers.facade import HostGpus, Wish
from provisioner.containers.services import Service
from provisioner.containers.ssh_fragment import has_block
from provisioner.errors import BlockedError, UsageError
from provisioner.facts import GPU, gather
from provisioner.transport.base import Transport
from provisioner.transport.ssh import SshTransport


def up(host: Host, wish: Wish, progress: Callable[[str], None]) -> ContainerInfo:
    """Make ``ssh HOST-NAME`` work. Raises RigupError."""
    with _connected(host) as transport:
        return facade.bring_up(host, transport, _gpus(transport), wish, progress=progress)


def require_alias(host: Host, name: str) -> None:
    """Raises UsageError where no ``ssh HOST-NAME`` was set up from here."""
    if not has_block(facade.alias_of(host, name)):
        raise UsageError(
            f"no container {name!r} of this host is known here",
            host=host.name,
            remedy=f"invoke container.up --host {host.name} --name {name}",
        )


def list_on(host: Host) -> tuple[ContainerInfo, ...]:
    """rigup's containers on the host, running or not."""
    with _connected(host) as transport:
        return tuple(engine.list_containers(transport))


def activity(host: Host, name: str) -> Activity:
    """What :func:`down` would end. Raises RigupError."""
    with _connected(host) as transport:
        return look_inside(transport, engine.docker_name_of(transport, name))


def down(host: Host, name: str, *, forget: bool = False, end_sessions: bool = False) -> bool:
    """Remove the container; whether there was one. Raises BlockedError, naming who works in it,
    unless ``end_sessions``."""
    with _connected(host) as transport:
        if not end_sessions:
            require_unused(transport, engine.docker_name_of(transport, name), name)
        return facade.take_down(host, transport, name, forget=forget)


def jupyter(host: Host, name: str) -> Service:
    """JupyterLab in the running container ``name``. Raises RigupError."""
    with _connected(host) as transport:
        return services.start_jupyter(transport, _running(host, transport, name))


def tensorboard(host: Host, name: str, log_dir: str) -> Service:
    """TensorBoard over a directory of the running container ``name``. Raises RigupError."""
    with _connected(host) as transport:
        return services.start_tensorboard(transport, _running(host, transport, name), log_dir)


def _running(host: Host, transport: Transport, name: str) -> ContainerInfo:
    for info in engine.list_containers(transport, engine.look_at_host(transport).login.uid):
        if info.name == name and info.running:
            return info
    raise UsageError(
        f"no container {name!r} is running",
        host=host.name,
        remedy=f"invoke container.up --host {host.name} --name {name}",
    )


def _gpus(transport: Transport) -> HostGpus:
    """Raises BlockedError where GPUs are on the bus that no driver answers for."""
    found = gather(transport, (GPU,))[GPU]
    if found.pci and not found.gpus:
        raise BlockedError(
            f"the host has {len(found.pci)} NVIDIA GPU(s) and no driver that answers for them",
            host=transport.host_name,
            remedy=f"invoke provision --host {transport.host_name}",
        )
    return HostGpus(
        driver_version=found.driver_version,
        compute_capabilities=tuple(
            gpu.compute_capability for gpu in found.gpus if gpu.compute_capability
        ),
        simulated=any(gpu.simulated for gpu in found.gpus),
        indices=tuple(gpu.index for gpu in found.gpus),
        uuids=tuple(gpu.uuid for gpu in found.gpus),
    )


@contextmanager
def _connected(host: Host) -> Iterator[Transport]:
    transport = SshTransport(host)
    try:
        yield transport
    finally:
        transport.close()
