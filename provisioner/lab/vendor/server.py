"""The container that signs the repositories with the lab's key and serves them on the bridge."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable

from provisioner.errors import LabError
from provisioner.lab.containers import (
    OWNER_LABEL,
    PORT_LABEL,
    ROLE_LABEL,
    container_name,
    free_port,
)
from provisioner.lab.docker import Docker
from provisioner.lab.images import Progress, build, local_base
from provisioner.lab.inventory_file import VendorRepository
from provisioner.lab.vendor.image import tools_recipe, vendor_recipe

ROLE = "vendor"
SERVED_PORT = 8000
LOOPBACK = "127.0.0.1"
STATE_DIR = "/var/lib/rigup-lab-vendor"
START_TIMEOUT_S = 60.0
POLL_S = 0.3


def ensure(docker: Docker, owner: str, progress: Progress) -> VendorRepository:
    """The lab's repository server, running; its address and key stay the same over restarts."""
    image = _image(docker, progress)
    container = container_name(owner, ROLE)
    running = docker.attempt(
        "inspect", "--format", "{{.Config.Image}} {{.State.Status}}", container
    )
    known_image, _, state = running.stdout.decode().strip().partition(" ")
    if known_image != image or state == "created":
        port = _known_port(docker, container)
        docker.attempt("rm", "--force", container)
        progress("starting the vendor repository (stand-in packages)")
        _create(docker, owner, container, image, port)
    docker.run("start", container)
    return _wait(docker, container)


def find(docker: Docker, owner: str) -> VendorRepository | None:
    """The repository of a lab, when its server runs."""
    container = container_name(owner, ROLE)
    answer = docker.attempt("exec", container, "cat", "/srv/www/fingerprint")
    if answer.returncode != 0:
        return None
    return VendorRepository(_url(docker, container), answer.stdout.decode().strip())


def bridge_gateway(network: str) -> str:
    """The engine's own address on its bridge, from ``docker network inspect``: the gateway when
    it names one, else the subnet's first address."""
    settings = json.loads(network)[0]["IPAM"]["Config"][0]
    gateway: str = settings.get("Gateway", "")
    return gateway or str(next(ipaddress.ip_network(settings["Subnet"]).hosts()))


def _image(docker: Docker, progress: Progress) -> str:
    base = local_base(progress=progress)
    tools = build(docker, tools_recipe(base), progress)
    return build(docker, vendor_recipe(tools), progress)


def _create(docker: Docker, owner: str, container: str, image: str, port: int | None) -> None:
    gateway = bridge_gateway(docker.run("network", "inspect", "bridge"))
    chosen = port or free_port()
    owned = f"{OWNER_LABEL}={owner}"
    docker.run("volume", "create", "--label", owned, f"{container}-key")
    docker.run(
        *("create", "--name", container, "--restart", "unless-stopped", "--init"),
        *("--label", owned, "--label", f"{ROLE_LABEL}={ROLE}", "--label", f"{PORT_LABEL}={chosen}"),
        *("--volume", f"{container}-key:{STATE_DIR}"),
        *("--publish", f"{gateway}:{chosen}:{SERVED_PORT}"),
        *("--publish", f"{LOOPBACK}:{chosen}:{SERVED_PORT}"),
        image,
    )


def _known_port(docker: Docker, container: str) -> int | None:
    answer = docker.attempt("inspect", "--format", _label(PORT_LABEL), container)
    text = answer.stdout.decode().strip()
    return int(text) if answer.returncode == 0 and text.isdigit() else None


def _url(docker: Docker, container: str) -> str:
    template = f'{{{{(index (index .HostConfig.PortBindings "{SERVED_PORT}/tcp") 0).HostIp}}}}'
    address = docker.run("inspect", "--format", template, container)
    return f"http://{address}:{_known_port(docker, container)}"


def _label(name: str) -> str:
    return f'{{{{index .Config.Labels "{name}"}}}}'


def _wait(
    docker: Docker,
    container: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> VendorRepository:
    deadline = clock() + START_TIMEOUT_S
    while clock() < deadline:
        answer = docker.attempt("exec", container, "cat", "/srv/www/fingerprint")
        if answer.returncode == 0:
            return VendorRepository(_url(docker, container), answer.stdout.decode().strip())
        sleep(POLL_S)
    raise LabError(
        f"the vendor repository did not start within {START_TIMEOUT_S:g} s",
        remedy=f"docker logs {container}",
    )
