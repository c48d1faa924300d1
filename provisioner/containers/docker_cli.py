"""Docker on a host, asked by its command line: answers checked, refusals explained."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from provisioner.command import Command, Result
from provisioner.containers.spec import ContainerSpec
from provisioner.errors import CommandFailed, RigupError
from provisioner.transport.base import Transport

START_TIMEOUT_S = 30.0
QUESTION_TIMEOUT_S = 60.0
"""For commands that only ask Docker something."""
STOP_TIMEOUT_S = 120.0
POLL_S = 0.25
STATUS = re.compile(r"[a-z]{1,20}")

ANSWERS = r"""
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=3) as link:
    sys.exit(0 if link.recv(4) == b"SSH-" else 1)
"""

REMEDIES = (
    ("permission denied", "the login user needs the docker group: invoke provision --host HOST"),
    ("could not select device driver", "install the NVIDIA toolkit: invoke provision --host HOST"),
    ("unresolvable cdi devices", "`nvidia-ctk cdi list`; invoke provision --host HOST"),
    ("failed to initialize nvml", "driver and libraries differ: reboot the host"),
    ("port is already allocated", "another program took the port: choose one with ssh_port"),
    ("bind source path does not exist", "make that folder on the host first"),
)


def checked(transport: Transport, command: Command, *, missing_is_fine: bool = False) -> Result:
    """``missing_is_fine``: that there is no such container is an answer. Raises CommandFailed, with
    a remedy."""
    result = transport.run(command)
    missing = re.search(rb"no such container", result.stderr, re.IGNORECASE)
    if not result.ok and not (missing_is_fine and missing):
        raise CommandFailed(result, host=transport.host_name, remedy=remedy_for(result))
    return result


def question(*words: str) -> Command:
    """A command that changes nothing on the host."""
    return Command.of(*words, patience_s=QUESTION_TIMEOUT_S)


def inspect(transport: Transport, docker_name: str) -> dict[str, Any] | None:
    """Docker's description of the container; None when there is none. Raises CommandFailed, and
    RigupError for a description of another one."""
    command = question("docker", "container", "inspect", docker_name)
    result = checked(transport, command, missing_is_fine=True)
    if not result.ok:
        return None
    for entry in entries(transport, result):
        if entry["Name"].lstrip("/") == docker_name:
            return entry
    raise _nonsense(transport)


def entries(transport: Transport, inspected: Result) -> list[dict[str, Any]]:
    """What `docker container inspect` printed, with name, state and labels checked. Raises
    RigupError for anything else."""
    try:
        found: Any = json.loads(inspected.stdout)
        if isinstance(found, list) and all(map(_is_container, found)):
            return found
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise _nonsense(transport)


def _is_container(entry: Any) -> bool:
    labels = entry["Config"].get("Labels") or {}
    named = isinstance(entry["Name"], str) and STATUS.fullmatch(entry["State"]["Status"])
    return bool(named) and all(isinstance(value, str) for value in labels.values())


def _nonsense(transport: Transport) -> RigupError:
    return RigupError(
        "Docker's description of a container makes no sense",
        host=transport.host_name,
        remedy="look at it on the host: docker ps --all; docker container inspect NAME",
    )


def remove_container(transport: Transport, docker_name: str) -> None:
    """Nothing happens where there is none. Raises CommandFailed."""
    command = Command.of("docker", "rm", "--force", docker_name, patience_s=STOP_TIMEOUT_S)
    checked(transport, command, missing_is_fine=True)


def await_ssh(
    transport: Transport,
    spec: ContainerSpec,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return once the container's sshd answers. Raises RigupError where it does not."""
    deadline = clock() + START_TIMEOUT_S
    probe = question("python3", "-I", "-c", ANSWERS, str(spec.ssh_port))
    while not transport.run(probe).ok:
        entry = inspect(transport, spec.docker_name)
        status = entry["State"]["Status"] if entry else "removed"
        if status != "running" or clock() >= deadline:
            raise RigupError(
                f"SSH in the container {spec.name} does not answer (it is {status})\n"
                f"{_last_log_lines(transport, spec.docker_name)}",
                host=transport.host_name,
                remedy=f"docker logs {spec.docker_name}",
            )
        sleep(POLL_S)


def _last_log_lines(transport: Transport, docker_name: str) -> str:
    result = transport.run(question("docker", "logs", "--tail", "12", docker_name))
    lines = (result.stdout + result.stderr).decode("utf-8", "replace").splitlines()
    return "\n".join(f"    {line}" for line in lines)


def remedy_for(result: Result) -> str | None:
    """What to do about what Docker said."""
    said = result.stderr.decode("utf-8", "replace").lower()
    if "docker" in said and "not found" in said:
        return "Docker is not installed: invoke provision --host HOST"
    return next((remedy for sign, remedy in REMEDIES if sign in said), None)
