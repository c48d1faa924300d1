"""A container as a value, and the exact ``docker run`` for it. Nothing here runs anything."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from provisioner.command import Command
from provisioner.errors import UsageError

LABEL = "rigup.container"
OWNER_LABEL = "rigup.uid"
SPEC_LABEL = "rigup.spec"

DEFAULT_SHM_SIZE = "8g"
"""Docker's own 64 MiB is too small for data loader workers; only what is used takes memory."""

LARGE_ULIMITS = ("memlock=-1", "stack=67108864", "nofile=1048576:1048576")
"""As NVIDIA runs its images; a recent Docker would allow 1024 open files."""

KEYS_FOLDER = "/etc/rigup/ssh"
HOST_KEYS_FOLDER = "/var/lib/rigup/ssh"
SSH_PORT_INSIDE = 22

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,40}")
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_GPUS = re.compile(r"none|all|[0-9]+(,[0-9]+)*|GPU-[0-9a-f-]+(,GPU-[0-9a-f-]+)*")
_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL", re.IGNORECASE)
_PORTS = range(1024, 65536)


@dataclass(frozen=True)
class Login:
    """Whose files the container writes: the host user's name, uid and gid."""

    name: str
    uid: int
    gid: int

    @property
    def inside(self) -> str:
        """The login name in the container: the host's, where Linux tools accept it there."""
        if self.uid == 0:
            return "root"
        usable = _LOGIN.fullmatch(self.name) and self.name != "root"
        return self.name if usable else "user"

    @property
    def home(self) -> str:
        return "/root" if self.uid == 0 else f"/home/{self.inside}"


@dataclass(frozen=True)
class Mount:
    """``source`` is a path on the host, or a volume's name."""

    source: str
    target: str
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Mount:
        """From ``/on/host:/in/container[:ro]``; raises UsageError."""
        parts = text.split(":")
        mode = parts[2] if len(parts) == 3 else "rw"
        good = 2 <= len(parts) <= 3 and parts[0] and mode in ("ro", "rw")
        if not good or not parts[1].startswith("/") or "\n" in text:
            raise UsageError(
                f"cannot read the mount {text!r}",
                remedy="write /on/host:/in/container or /on/host:/in/container:ro",
            )
        return cls(parts[0], parts[1], read_only=mode == "ro")

    def render(self) -> str:
        """The value of ``--mount``. Unlike with ``--volume``, a missing folder is an error."""
        kind = "bind" if self.source.startswith("/") else "volume"
        fields = [f"type={kind}", f"source={self.source}", f"target={self.target}"]
        return _csv([*fields, "readonly"] if self.read_only else fields)


@dataclass(frozen=True)
class ContainerSpec:
    """An SSH container on one host.

    name: what users call it; image: an image on the host that carries the label ``rigup.ssh``;
    ssh_port: on the host's loopback; gpus: ``none``, ``all``, indices or UUIDs (``0,1``);
    keys_dir: the host's folder with ``authorized_keys``; environment: never secrets, it is
    visible in ``docker inspect``; large_limits: whether the host may raise resource limits.
    """

    name: str
    image: str
    login: Login
    ssh_port: int
    keys_dir: PurePosixPath
    gpus: str = "none"
    mounts: tuple[Mount, ...] = ()
    shm_size: str = DEFAULT_SHM_SIZE
    environment: tuple[tuple[str, str], ...] = ()
    host_name: str = ""
    large_limits: bool = True

    def __post_init__(self) -> None:
        _check(self)

    @property
    def docker_name(self) -> str:
        """Unique on the host: two users may both have a container of one name."""
        return f"rigup-ssh-{self.login.uid}-{self.name}"

    @property
    def volumes(self) -> tuple[str, str]:
        """The host key's and the home directory's; both survive the container."""
        return f"{self.docker_name}-hostkey", f"{self.docker_name}-home"

    def to_label(self) -> str:
        """What was asked, as JSON; read back to see whether a container is still as asked."""
        fields = asdict(self)
        fields["keys_dir"] = str(self.keys_dir)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def run_command(spec: ContainerSpec) -> Command:
    """The ``docker run`` that starts the container. SSH is published on loopback only."""
    return Command.of("docker", "run", "--detach", *_options(spec, spec.docker_name), spec.image)


def create_command(spec: ContainerSpec, docker_name: str) -> Command:
    """The same container under another name, not started yet."""
    return Command.of("docker", "create", *_options(spec, docker_name), spec.image)


def _options(spec: ContainerSpec, docker_name: str) -> list[str]:
    words = ["--name", docker_name]
    words += ["--hostname", _host_name(spec), "--restart", "unless-stopped"]
    words += ["--publish", f"127.0.0.1:{spec.ssh_port}:{SSH_PORT_INSIDE}"]
    words += ["--shm-size", spec.shm_size, *_gpu_words(spec.gpus)]
    words += _pairs("--ulimit", LARGE_ULIMITS if spec.large_limits else ())
    words += _pairs("--env", (f"{name}={value}" for name, value in _environment(spec).items()))
    words += _pairs("--mount", (mount.render() for mount in _mounts(spec)))
    words += _pairs("--label", (f"{name}={value}" for name, value in _labels(spec).items()))
    return words


def differences(spec: ContainerSpec, label: str) -> list[str]:
    """What ``spec`` asks otherwise than the label says, as ``gpus: none -> all``."""
    try:
        running: Any = json.loads(label)
    except (ValueError, RecursionError):
        running = None
    if not isinstance(running, dict):
        return ["it was made by another version of rigup"]
    asked: dict[str, Any] = json.loads(spec.to_label())
    return [
        f"{key}: {_shown(running.get(key))} -> {_shown(asked.get(key))}"
        for key in sorted({*running, *asked})
        if running.get(key) != asked.get(key)
    ]


def _check(spec: ContainerSpec) -> None:
    if not NAME.fullmatch(spec.name):
        raise UsageError(
            f"{spec.name!r} is no container name", remedy="use a-z 0-9 _ . - (at most 41)"
        )
    if not _GPUS.fullmatch(spec.gpus):
        raise UsageError(f"cannot read gpus {spec.gpus!r}", remedy="all, none, or indices: 0,1")
    if spec.ssh_port not in _PORTS:
        raise UsageError(f"{spec.ssh_port} is no usable port", remedy="choose 1024 to 65535")
    if not spec.image or spec.image.startswith("-"):
        raise UsageError(f"{spec.image!r} is no image")
    for name, _ in spec.environment:
        if not _ENVIRONMENT_NAME.fullmatch(name) or _SECRET_NAME.search(name):
            raise UsageError(
                f"{name!r} cannot be set for a container",
                remedy="secrets do not belong in a container's environment; put them in a file "
                "in its home directory",
            )


def _environment(spec: ContainerSpec) -> Mapping[str, str]:
    login = spec.login
    own = {
        "RIGUP_USER": login.inside,
        "RIGUP_UID": str(login.uid),
        "RIGUP_GID": str(login.gid),
    }
    # PyTorch's images ask for every GPU, which a host with NVIDIA's runtime as default grants.
    hidden = {"NVIDIA_VISIBLE_DEVICES": "void"} if spec.gpus == "none" else {}
    return {**dict(spec.environment), **hidden, **own}


def _gpu_words(gpus: str) -> list[str]:
    if gpus == "none":
        return []
    return ["--gpus", "all" if gpus == "all" else f'"device={gpus}"']


def _mounts(spec: ContainerSpec) -> list[Mount]:
    host_key, home = spec.volumes
    return [
        Mount(str(spec.keys_dir), KEYS_FOLDER, read_only=True),
        Mount(host_key, HOST_KEYS_FOLDER),
        Mount(home, spec.login.home),
        *spec.mounts,
    ]


def _labels(spec: ContainerSpec) -> Mapping[str, str]:
    owner = str(spec.login.uid)
    return {LABEL: spec.name, OWNER_LABEL: owner, SPEC_LABEL: spec.to_label()}


def _host_name(spec: ContainerSpec) -> str:
    joined = f"{spec.host_name}-{spec.name}" if spec.host_name else spec.name
    return re.sub(r"[^A-Za-z0-9-]+", "-", joined)[:63].strip("-")


def _pairs(option: str, values: Any) -> list[str]:
    return [word for value in values for word in (option, value)]


def _csv(fields: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
