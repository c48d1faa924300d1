"""Containers on a host: up, down, list. Docker on the host is the only record of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any

from provisioner.command import Command
from provisioner.containers import replacement
from provisioner.containers.activity import require_unused
from provisioner.containers.docker_cli import (
    QUESTION_TIMEOUT_S,
    await_ssh,
    checked,
    entries,
    inspect,
    question,
    remedy_for,
    remove_container,
)
from provisioner.containers.keys import authorized_keys, parse_public_key
from provisioner.containers.spec import (
    HOST_KEYS_FOLDER,
    LABEL,
    NAME,
    OWNER_LABEL,
    SPEC_LABEL,
    ContainerSpec,
    Login,
    differences,
    run_command,
)
from provisioner.errors import CommandFailed, RigupError, UsageError
from provisioner.transport.base import Transport

HostKey = tuple[str, str]
"""Key type and base64 text, as in a known_hosts line."""

PORTS = range(22200, 22999)
"""Below the ports that Linux hands out for outgoing connections (32768 and up)."""

HOST_FACTS = r"""
printf 'uid=%s\ngid=%s\nname=%s\nhome=%s\n' "$(id -u)" "$(id -g)" "$(id -un)" "$HOME"
grep '^CapBnd' /proc/self/status | tr ':\t' '= ' | tr -d ' '
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    awk '$4 == "0A" { n = split($2, part, ":"); print "port=" part[n] }'
"""
CAP_SYS_RESOURCE = 1 << 24

RUNNING_SPECS = f"""
command -v docker >/dev/null || exit 0
exec docker ps --filter status=running --filter label={LABEL} \\
    --filter "label={OWNER_LABEL}=$(id -u)" --format '{{{{.Label "{SPEC_LABEL}"}}}}'
"""


@dataclass(frozen=True)
class HostPlace:
    """What a spec needs to know about the host: the login user and which ports are taken."""

    login: Login
    home: PurePosixPath
    listening: frozenset[int]
    can_raise_limits: bool


@dataclass(frozen=True)
class ContainerInfo:
    """A container as it is. ``host_keys`` is empty where it does not run."""

    name: str
    docker_name: str
    state: str
    ssh_port: int
    user: str
    gpus: str
    image: str
    host_keys: tuple[HostKey, ...] = ()
    changed: bool = False

    @property
    def running(self) -> bool:
        return self.state == "running"


def look_at_host(transport: Transport) -> HostPlace:
    """One round trip; raises RigupError when the host's answer makes no sense."""
    pairs = [
        line.partition("=")
        for line in checked(
            transport, Command.sh(HOST_FACTS, patience_s=QUESTION_TIMEOUT_S)
        ).text.splitlines()
    ]
    facts = {key: value for key, _, value in pairs}
    try:
        login = Login(facts["name"], int(facts["uid"]), int(facts["gid"]))
        ports = frozenset(int(value, 16) for key, _, value in pairs if key == "port")
        can_raise = bool(int(facts["CapBnd"], 16) & CAP_SYS_RESOURCE)
        return HostPlace(login, PurePosixPath(facts["home"]), ports, can_raise)
    except (KeyError, ValueError) as error:
        raise RigupError(f"unexpected answer: {error}", host=transport.host_name) from None


def choose_port(name: str, place: HostPlace, containers: Iterable[ContainerInfo]) -> int:
    """The container's present port if it exists, else the first free one of PORTS."""
    known = {container.name: container.ssh_port for container in containers}
    if name in known:
        return known[name]
    taken = place.listening | frozenset(known.values())
    for port in PORTS:
        if port not in taken:
            return port
    raise RigupError(f"every port from {PORTS.start} to {PORTS.stop - 1} is taken")


def up(
    transport: Transport,
    spec: ContainerSpec,
    public_keys: Iterable[str],
    *,
    recreate: bool = False,
    end_sessions: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> ContainerInfo:
    """Make the container run as asked and answer on its port; does nothing when it does.

    ``public_keys`` replace the ones that may log in, which needs no restart. A container that
    differs from ``spec`` is replaced only with ``recreate`` (what is not in its home directory, in
    a mount or in a volume is lost), else UsageError says what differs; where the new one does not
    start, the old one runs again. BlockedError names who works in it, unless ``end_sessions``.
    Raises CommandFailed or RigupError when it does not start.
    """
    keys_changed = _install_keys(transport, spec, authorized_keys(public_keys))
    replacement.finish_earlier(transport, spec, sleep, clock)
    found = inspect(transport, spec.docker_name)
    if found is not None and not _is_as_asked(found, spec):
        _require_recreate(found, spec, transport.host_name, recreate)
        if not end_sessions:
            require_unused(transport, spec.docker_name, spec.name)
        replacement.replace_container(transport, spec, found, sleep, clock)
        started = True
    else:
        started = _start(transport, spec, found)
        await_ssh(transport, spec, sleep, clock)
    current = inspect(transport, spec.docker_name)
    if current is None or not _is_as_asked(current, spec):
        raise RigupError(
            f"Docker describes another container than {spec.name}, which was started",
            host=transport.host_name,
            remedy="somebody else may work on it right now: try again",
        )
    return _info(current, host_keys(transport, spec.docker_name), started or keys_changed)


def docker_name_of(transport: Transport, name: str) -> str:
    """What Docker calls the login user's container ``name``."""
    return f"rigup-ssh-{look_at_host(transport).login.uid}-{name}"


def down(transport: Transport, name: str, uid: int, *, forget: bool = False) -> bool:
    """Remove the container; whether there was one.

    Its host key and home directory stay for the next ``up``, unless ``forget``.
    """
    docker_name = f"rigup-ssh-{uid}-{name}"
    left = (replacement.old_name, replacement.new_name, replacement.gone_name)
    names = (docker_name, *(name_of(docker_name) for name_of in left))
    names = tuple(entry["Name"].lstrip("/") for entry in _any_of(transport, *names))
    for one in names:
        remove_container(transport, one)
    existed = bool(names)
    if forget:
        volumes = (f"{docker_name}-hostkey", f"{docker_name}-home")
        checked(transport, Command.of("docker", "volume", "rm", "--force", *volumes))
    return existed


def running_images(transport: Transport) -> tuple[str, ...]:
    """The images of the login user's own running SSH containers, by the containers' names.

    One round trip; none where there is no Docker. Raises CommandFailed when Docker refuses.
    """
    answer = checked(transport, Command.sh(RUNNING_SPECS, patience_s=QUESTION_TIMEOUT_S)).text
    return images_of(answer.splitlines())


def images_of(labels: Iterable[str]) -> tuple[str, ...]:
    """The images in ``rigup.spec`` labels, by the containers' names; others are skipped."""
    specs = [spec for label in labels if (spec := _spec(label)) is not None]
    return tuple(spec["image"] for spec in sorted(specs, key=itemgetter("name")))


def list_containers(transport: Transport, uid: int | None = None) -> tuple[ContainerInfo, ...]:
    """The host's SSH containers by name, running or not; of one user, or of all.

    What only carries rigup's label and was not made by it is left out.
    """
    owner = () if uid is None else ("--filter", f"label={OWNER_LABEL}={uid}")
    words = ("docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}", *owner)
    ids = checked(transport, question(*words)).text.split()
    if not ids:
        return ()
    command = question("docker", "container", "inspect", *ids)
    inspected = checked(transport, command, missing_is_fine=True)  # one may be gone by now
    known = (entry for entry in entries(transport, inspected) if _spec(_label(entry, SPEC_LABEL)))
    return tuple(sorted(map(_info, known), key=lambda info: info.name))


def host_keys(transport: Transport, docker_name: str) -> tuple[HostKey, ...]:
    """The container's public host keys, read through Docker and so over the trusted link."""
    script = f"/bin/cat {HOST_KEYS_FOLDER}/*.pub"  # as root, so nothing by the user's PATH
    words = ("docker", "exec", "--user", "root", docker_name, "/bin/sh", "-c", script)
    result = checked(transport, question(*words))
    keys = [key.split() for key in map(parse_public_key, result.text.splitlines()) if key]
    return tuple((kind, text) for kind, text in keys)


def _any_of(transport: Transport, *docker_names: str) -> list[dict[str, Any]]:
    found = [inspect(transport, name) for name in docker_names]
    return [entry for entry in found if entry is not None]


def _install_keys(transport: Transport, spec: ContainerSpec, wanted: bytes) -> bool:
    path = spec.keys_dir / "authorized_keys"
    present = transport.run(Command.of("cat", "--", str(path)))
    if present.ok and present.stdout == wanted:
        return False
    checked(transport, Command.of("mkdir", "-p", "-m", "700", "--", str(spec.keys_dir)))
    transport.put(wanted, path, mode=0o600)
    return True


def _is_as_asked(entry: dict[str, Any], spec: ContainerSpec) -> bool:
    return not differences(spec, _label(entry, SPEC_LABEL))


def _require_recreate(
    entry: dict[str, Any], spec: ContainerSpec, host: str, recreate: bool
) -> None:
    if recreate:
        return
    differing = "; ".join(differences(spec, _label(entry, SPEC_LABEL)))
    raise UsageError(
        f"the container {spec.name} is there, but otherwise: {differing}",
        host=host,
        remedy="--recreate replaces it (its home directory and mounts stay, packages installed "
        "in it do not), or ask for it as it is",
    )


def _start(transport: Transport, spec: ContainerSpec, found: dict[str, Any] | None) -> bool:
    if found is None:
        _run_new(transport, spec)
        return True
    if found["State"]["Status"] == "running":
        return False
    verb = "unpause" if found["State"]["Status"] == "paused" else "start"
    checked(transport, Command.of("docker", verb, spec.docker_name))
    return True


def _run_new(transport: Transport, spec: ContainerSpec) -> None:
    result = transport.run(run_command(spec))
    if result.ok:
        return
    remove_container(transport, spec.docker_name)  # Docker leaves what it created before it refused
    raise CommandFailed(result, host=transport.host_name, remedy=remedy_for(result))


def _info(
    entry: dict[str, Any], keys: tuple[HostKey, ...] = (), changed: bool = False
) -> ContainerInfo:
    spec = json.loads(_label(entry, SPEC_LABEL))
    return ContainerInfo(
        name=spec["name"],
        docker_name=entry["Name"].lstrip("/"),
        state=entry["State"]["Status"],
        ssh_port=spec["ssh_port"],
        user=Login(**spec["login"]).inside,
        gpus=spec["gpus"],
        image=spec["image"],
        host_keys=keys,
        changed=changed,
    )


def _spec(label: str) -> dict[str, Any] | None:
    """What a container's label says was asked; None when rigup did not write it."""
    try:
        spec: dict[str, Any] = json.loads(label)
        login = Login(**spec["login"])
        texts = (spec["name"], spec["image"], spec["gpus"], login.name)
        numbers = (spec["ssh_port"], login.uid, login.gid)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    readable = all(isinstance(text, str) for text in texts)
    if not readable or not all(type(number) is int for number in numbers):
        return None
    usable = NAME.fullmatch(spec["name"]) and 0 < spec["ssh_port"] < 65536
    return spec if usable else None


def _label(entry: dict[str, Any], name: str) -> str:
    return str((entry["Config"].get("Labels") or {}).get(name, ""))
