"""Practice hosts as containers of the local engine: made, found, started, waited for."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.errors import LabError
from provisioner.lab.docker import Docker
from provisioner.lab.gpus import CONFIG_PATH
from provisioner.lab.recipe import tar_of

OWNER_LABEL = "rigup.lab"
ROLE_LABEL = "rigup.lab.role"
NAME_LABEL = "rigup.lab.name"
DISTRO_LABEL = "rigup.lab.distro"
PORT_LABEL = "rigup.lab.port"
HOST_ROLE = "host"

HASH_LENGTH = 10
SSH_PORT = 22
PORTS = range(22000, 32000)
BOOT_TIMEOUT_S = 120.0
POLL_S = 0.5
KEYS_COMMAND = ("sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub")
# No SYS_RESOURCE: some machines lack it. No SYS_MODULE: the kernel belongs to the machine.
CAPABILITIES = ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--cap-drop", "SYS_MODULE")
UNCONFINED = ("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
CGROUP_V1 = (
    *("--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"),
    *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns", "host"),
)
CGROUP_V2 = ("--cgroupns", "private")


@dataclass(frozen=True)
class LabHost:
    """One practice host. ``state`` is Docker's word: running, paused, exited, created."""

    name: str
    distro: str
    port: int
    state: str
    container: str

    @property
    def running(self) -> bool:
        return self.state == "running"


def owner_of(home: Path) -> str:
    """The label value that marks everything made for this rigup home."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:HASH_LENGTH]


def list_hosts(docker: Docker, owner: str) -> tuple[LabHost, ...]:
    """The hosts of one lab, by name; read from the engine, which is the only truth."""
    listed = docker.run(
        *("ps", "--all", "--quiet", "--filter", f"label={OWNER_LABEL}={owner}"),
        *("--filter", f"label={ROLE_LABEL}={HOST_ROLE}"),
    )
    if not listed:
        return ()
    found = [_lab_host(item) for item in json.loads(docker.run("inspect", *listed.split()))]
    return tuple(sorted(found, key=lambda host: host.name))


def _lab_host(item: dict[str, Any]) -> LabHost:
    labels = item["Config"]["Labels"]
    return LabHost(
        name=labels[NAME_LABEL],
        distro=labels[DISTRO_LABEL],
        port=int(labels[PORT_LABEL]),
        state=item["State"]["Status"],
        container=item["Name"].lstrip("/"),
    )


def create_host(
    docker: Docker, owner: str, name: str, distro: str, image: str, gpu_config: str | None
) -> LabHost:
    """Make and start one host. What a killed earlier attempt left of it is removed first."""
    container = container_name(owner, name)
    docker.attempt("rm", "--force", "--volumes", container)
    port = free_port()
    words = [
        *("create", "--name", container, "--hostname", name, "--restart", "unless-stopped"),
        *_labels(owner, name, distro, port),
        *(*CAPABILITIES, *UNCONFINED, *_cgroup_options(docker)),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock"),
        *("--volume", f"{container}-docker:/var/lib/docker"),
        *("--publish", f"127.0.0.1:{port}:{SSH_PORT}"),
    ]
    docker.run("volume", "create", "--label", f"{OWNER_LABEL}={owner}", f"{container}-docker")
    docker.run(*words, image)
    if gpu_config is not None:
        archive = tar_of({CONFIG_PATH.lstrip("/"): gpu_config.encode()})
        docker.run("cp", "-", f"{container}:/", stdin=archive)
    docker.run("start", container)
    return LabHost(name, distro, port, "running", container)


def container_name(owner: str, name: str) -> str:
    return f"rigup-lab-{owner}-{name}"


def _labels(owner: str, name: str, distro: str, port: int) -> list[str]:
    labels = {
        OWNER_LABEL: owner,
        ROLE_LABEL: HOST_ROLE,
        NAME_LABEL: name,
        DISTRO_LABEL: distro,
        PORT_LABEL: str(port),
    }
    return [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]


def _cgroup_options(docker: Docker) -> tuple[str, ...]:
    version = docker.run("info", "--format", "{{.CgroupVersion}}")
    return CGROUP_V2 if version == "2" else CGROUP_V1


def free_port() -> int:
    """A TCP port that nobody listens on now, below the range that outgoing connections use."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise LabError(f"no free port from {PORTS.start} to {PORTS.stop}")


def wait_until_up(
    docker: Docker,
    host: LabHost,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """The host's public keys, once systemd has finished starting; LabError after two minutes."""
    deadline = clock() + BOOT_TIMEOUT_S
    state = "?"
    while clock() < deadline:
        answer = docker.attempt("exec", host.container, "systemctl", "is-system-running")
        state = answer.stdout.decode("utf-8", "replace").strip() or "starting"
        if state in ("running", "degraded"):
            return host_keys(docker, host)
        sleep(POLL_S)
    raise LabError(
        f"the practice host did not finish starting within {BOOT_TIMEOUT_S:g} s ({state})",
        host=host.name,
        remedy=f"docker logs {host.container}; docker exec {host.container} systemctl --failed",
    )


def host_keys(docker: Docker, host: LabHost) -> tuple[str, ...]:
    """Its public SSH keys, read inside the container and never over the network."""
    return tuple(docker.run("exec", host.container, *KEYS_COMMAND).splitlines())
