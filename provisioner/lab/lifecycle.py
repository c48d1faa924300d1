"""``lab.up``, ``lab.status``, ``lab.down``."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.home import write_private
from provisioner.lab import access, inventory_file, known_hosts
from provisioner.lab.containers import (
    OWNER_LABEL,
    LabHost,
    create_host,
    list_hosts,
    owner_of,
    wait_until_up,
)
from provisioner.lab.distros import DEFAULT_DISTRO, Distro, spread
from provisioner.lab.docker import Docker
from provisioner.lab.gpus import DEFAULT_MODEL, MAX_GPUS, find_model, render_config
from provisioner.lab.images import Progress, host_image, remove_images, silent
from provisioner.lab.vendor import server

MAX_HOSTS = 32
DEFAULT_GPUS = 2


@dataclass(frozen=True)
class Lab:
    """A lab as it is now. ``inventory`` may not exist yet (or any more)."""

    home: Path
    hosts: tuple[LabHost, ...]
    vendor: inventory_file.VendorRepository | None

    @property
    def inventory(self) -> Path:
        return lab_dir(self.home) / "hosts.yaml"

    @property
    def identity(self) -> Path:
        return access.access_of(lab_dir(self.home)).identity

    @property
    def admin_password_file(self) -> Path:
        return access.access_of(lab_dir(self.home)).password_file


def lab_dir(home: Path) -> Path:
    return home / "lab"


def up(
    count: int,
    *,
    distros: Sequence[str] = (DEFAULT_DISTRO,),
    home: Path,
    gpus: int = DEFAULT_GPUS,
    model: str = DEFAULT_MODEL,
    progress: Progress = silent,
) -> Lab:
    """Have at least ``count`` practice hosts (lab01 …) running, reachable and in the inventory.

    Hosts that exist are kept as they are, and started where they stopped; ``distros`` (alternating)
    and ``gpus`` apply to new ones. May be killed and called again at any point. Raises UsageError
    for impossible wishes, LabError where this machine cannot have practice hosts.
    """
    _refuse_nonsense(count, gpus)
    chosen, gpu_model = spread(distros, count), find_model(model)
    docker, owner = Docker(), owner_of(home)
    docker.require()
    with _one_at_a_time(home):
        granted = access.prepare(lab_dir(home))
        vendor, images = _prepare_together(docker, owner, chosen, progress)
        for index, distro in enumerate(chosen):
            name = f"lab{index + 1:02}"
            config = render_config(f"{owner}.{name}", gpu_model, gpus) if gpus else None
            _ensure_host(docker, owner, name, distro, images[distro], config, progress)
        hosts = list_hosts(docker, owner)
        keys = _wait_for_all(docker, hosts, granted, progress)
        _pin(home, keys)
        _write_inventory(home, hosts, vendor, granted.identity)
        return Lab(home, hosts, vendor)


def status(home: Path) -> Lab:
    """The lab of that home as the engine knows it; without hosts when there is none."""
    docker, owner = Docker(), owner_of(home)
    docker.require()
    return Lab(home, list_hosts(docker, owner), server.find(docker, owner))


def down(home: Path, *, images: bool = False, progress: Progress = silent) -> int:
    """Remove the lab: hosts, volumes, repository server, inventory, keys and pinned host keys.

    Cached images stay unless ``images``. The number of hosts removed; 0 when there was no lab.
    """
    docker, owner = Docker(), owner_of(home)
    docker.require()
    with _one_at_a_time(home):
        hosts = list_hosts(docker, owner)
        _unpin(home, [host.port for host in hosts])
        for leftover in ("hosts.yaml", "id_ed25519", "id_ed25519.pub", "admin-password"):
            (lab_dir(home) / leftover).unlink(missing_ok=True)
        mine = ("--filter", f"label={OWNER_LABEL}={owner}")
        _remove(docker, ("ps", "--all", "--quiet", *mine), ("rm", "--force", "--volumes"))
        _remove(docker, ("volume", "ls", "--quiet", *mine), ("volume", "rm", "--force"))
    progress(f"removed {len(hosts)} practice host(s)")
    if images:
        progress(f"removed {remove_images(docker)} image(s)")
    return len(hosts)


def _refuse_nonsense(count: int, gpus: int) -> None:
    if not 1 <= count <= MAX_HOSTS:
        raise UsageError(f"cannot make {count} practice hosts", remedy=f"--hosts 1 to {MAX_HOSTS}")
    if not 0 <= gpus <= MAX_GPUS:
        raise UsageError(f"cannot simulate {gpus} GPUs per host", remedy=f"--gpus 0 to {MAX_GPUS}")


def _prepare_together(
    docker: Docker, owner: str, distros: Sequence[Distro], progress: Progress
) -> tuple[inventory_file.VendorRepository, dict[Distro, str]]:
    """The repository server and one image per distro, made at the same time."""
    with ThreadPoolExecutor() as pool:
        images = {distro: pool.submit(host_image, distro, progress) for distro in set(distros)}
        vendor = server.ensure(docker, owner, progress)
        return vendor, {distro: future.result() for distro, future in images.items()}


def _ensure_host(
    docker: Docker,
    owner: str,
    name: str,
    distro: Distro,
    image: str,
    config: str | None,
    progress: Progress,
) -> None:
    known = {host.name: host for host in list_hosts(docker, owner)}.get(name)
    if known is None or known.state == "created":
        progress(f"{name}: creating a {distro.name} host")
        create_host(docker, owner, name, distro.name, image, config)
    elif known.state == "paused":
        docker.run("unpause", known.container)
    elif not known.running:
        progress(f"{name}: starting")
        docker.run("start", known.container)


def _wait_for_all(
    docker: Docker, hosts: Sequence[LabHost], granted: access.Access, progress: Progress
) -> dict[int, tuple[str, ...]]:
    keys: dict[int, tuple[str, ...]] = {}
    for host in hosts:
        if not host.running:
            continue
        keys[host.port] = wait_until_up(docker, host)
        access.grant(docker, host, granted)
        progress(f"{host.name}: up, ssh on 127.0.0.1:{host.port}")
    return keys


def _pin(home: Path, keys: dict[int, tuple[str, ...]]) -> None:
    path = home / "known_hosts"
    before = path.read_text("utf-8") if path.exists() else ""
    after = known_hosts.pin(before, keys)
    if after != before:
        write_private(path, after.encode())


def _unpin(home: Path, ports: Sequence[int]) -> None:
    path = home / "known_hosts"
    if path.exists():
        write_private(path, known_hosts.unpin(path.read_text("utf-8"), ports).encode())


def _write_inventory(
    home: Path,
    hosts: Sequence[LabHost],
    vendor: inventory_file.VendorRepository,
    identity: Path,
) -> None:
    entries = [inventory_file.Entry(host.name, host.port, host.distro) for host in hosts]
    text = inventory_file.render(entries, identity, vendor)
    write_private(lab_dir(home) / "hosts.yaml", text.encode())


def _remove(docker: Docker, listing: Sequence[str], removal: Sequence[str]) -> None:
    found = docker.run(*listing).split()
    if found:
        docker.run(*removal, *found)


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    lab_dir(home).mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(lab_dir(home) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
