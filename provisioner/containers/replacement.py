"""Replace a container by another of the same name, port and volumes: the old one goes last.

Both cannot listen on one port, so the old one is stopped while the new one is tried. Whatever fails
then, or wherever the client is killed, the old one runs again: at once, or at the next ``up``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from provisioner.command import Command
from provisioner.containers.docker_cli import (
    await_ssh,
    checked,
    inspect,
    remedy_for,
    remove_container,
)
from provisioner.containers.spec import SPEC_LABEL, ContainerSpec, create_command
from provisioner.errors import CommandFailed, RigupError
from provisioner.transport.base import Transport

STOP_GRACE_S = 10


def replace_container(
    transport: Transport,
    spec: ContainerSpec,
    old: dict[str, Any],
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    """Make ``spec`` run under its name in the place of ``old``, as ``docker inspect`` shows it.

    Raises CommandFailed or RigupError where it does not; the old one is then as it was.
    """
    new, kept = _new_name(spec), _old_name(spec)
    remove_container(transport, new)
    created = transport.run(create_command(spec, new))
    if not created.ok:
        remove_container(transport, new)
        remedy = remedy_for(created)
        raise CommandFailed(created, host=transport.host_name, remedy=remedy)
    was_running = old["State"]["Status"] == "running"
    try:
        checked(transport, Command.of("docker", "stop", "-t", str(STOP_GRACE_S), spec.docker_name))
        checked(transport, Command.of("docker", "rename", spec.docker_name, kept))
        checked(transport, Command.of("docker", "rename", new, spec.docker_name))
        checked(transport, Command.of("docker", "start", spec.docker_name))
        await_ssh(transport, spec, sleep, clock)
    except RigupError as error:
        _put_back(transport, spec, start=was_running)
        error.message += "\nthe container that was there before is there again, as it was"
        raise
    _drop_old(transport, spec)


def finish_earlier(
    transport: Transport,
    spec: ContainerSpec,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    """Clear up after a replacement whose client was killed. The old container comes back, unless
    the new one has answered, or does now."""
    pattern = f"^/?{re.escape(spec.docker_name)}\\.(old|new|gone)$"
    words = ("docker", "ps", "--all", "--format", "{{.Names}}", "--filter", f"name={pattern}")
    left = checked(transport, Command.of(*words)).text.split()
    if _gone_name(spec) in left:
        remove_container(transport, _gone_name(spec))
    if _old_name(spec) in left:
        if _new_one_answers(transport, spec, sleep, clock):
            _drop_old(transport, spec)
        else:
            _put_back(transport, spec, start=True)
    if _new_name(spec) in left:
        remove_container(transport, _new_name(spec))


def _new_one_answers(
    transport: Transport,
    spec: ContainerSpec,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> bool:
    old, current = inspect(transport, _old_name(spec)), inspect(transport, spec.docker_name)
    if current is None or old is None or _label(current) == _label(old):
        return False
    if current["State"]["Status"] != "running":
        return False
    try:
        await_ssh(transport, spec, sleep, clock)
    except RigupError:
        return False
    return True


def _drop_old(transport: Transport, spec: ContainerSpec) -> None:
    """The new name says, also to a later client, that the new container has answered."""
    checked(transport, Command.of("docker", "rename", _old_name(spec), _gone_name(spec)))
    remove_container(transport, _gone_name(spec))


def _put_back(transport: Transport, spec: ContainerSpec, *, start: bool) -> None:
    if inspect(transport, _old_name(spec)) is not None:
        remove_container(transport, spec.docker_name)
        checked(transport, Command.of("docker", "rename", _old_name(spec), spec.docker_name))
    remove_container(transport, _new_name(spec))
    if start:
        checked(transport, Command.of("docker", "start", spec.docker_name))


def _label(entry: dict[str, Any]) -> str:
    return str((entry["Config"].get("Labels") or {}).get(SPEC_LABEL, ""))


def _new_name(spec: ContainerSpec) -> str:
    return f"{spec.docker_name}.new"


def _gone_name(spec: ContainerSpec) -> str:
    return f"{spec.docker_name}.gone"


def _old_name(spec: ContainerSpec) -> str:
    return f"{spec.docker_name}.old"
