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
    STOP_TIMEOUT_S,
    await_ssh,
    checked,
    inspect,
    question,
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
    new, kept = new_name(spec.docker_name), old_name(spec.docker_name)
    remove_container(transport, new)
    created = transport.run(create_command(spec, new))
    if not created.ok:
        remove_container(transport, new)
        remedy = remedy_for(created)
        raise CommandFailed(created, host=transport.host_name, remedy=remedy)
    was_running = old["State"]["Status"] in ("running", "paused", "restarting")
    try:
        _stop(transport, spec.docker_name, is_paused=old["State"]["Status"] == "paused")
        checked(transport, Command.of("docker", "rename", spec.docker_name, kept))
        checked(transport, Command.of("docker", "rename", new, spec.docker_name))
        checked(transport, Command.of("docker", "start", spec.docker_name))
        await_ssh(transport, spec, sleep, clock)
    except RigupError as error:
        error.message += _put_back_and_say(transport, spec, start=was_running)
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
    left = checked(transport, question(*words)).text.split()
    if gone_name(spec.docker_name) in left:
        remove_container(transport, gone_name(spec.docker_name))
    if old_name(spec.docker_name) in left:
        if _new_one_answers(transport, spec, sleep, clock):
            _drop_old(transport, spec)
        else:
            _put_back(transport, spec, start=True)
    if new_name(spec.docker_name) in left:
        remove_container(transport, new_name(spec.docker_name))


def _new_one_answers(
    transport: Transport,
    spec: ContainerSpec,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> bool:
    old, current = (
        inspect(transport, old_name(spec.docker_name)),
        inspect(transport, spec.docker_name),
    )
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
    checked(
        transport,
        Command.of("docker", "rename", old_name(spec.docker_name), gone_name(spec.docker_name)),
    )
    remove_container(transport, gone_name(spec.docker_name))


def _stop(transport: Transport, docker_name: str, *, is_paused: bool) -> None:
    if is_paused:
        checked(transport, question("docker", "unpause", docker_name))
    words = ("docker", "stop", "-t", str(STOP_GRACE_S), docker_name)
    checked(transport, Command.of(*words, patience_s=STOP_TIMEOUT_S))


def _put_back_and_say(transport: Transport, spec: ContainerSpec, *, start: bool) -> str:
    try:
        _put_back(transport, spec, start=start)
    except RigupError as error:
        return (
            f"\nthe container that was there before is kept as {old_name(spec.docker_name)}, but "
            f"could not be put back ({error.message}); the next container.up puts it back"
        )
    return "\nthe container that was there before is there again, as it was"


def _put_back(transport: Transport, spec: ContainerSpec, *, start: bool) -> None:
    kept = old_name(spec.docker_name)
    if inspect(transport, kept) is not None:
        remove_container(transport, spec.docker_name)
        checked(transport, Command.of("docker", "rename", kept, spec.docker_name))
    remove_container(transport, new_name(spec.docker_name))
    if start:
        checked(transport, Command.of("docker", "start", spec.docker_name))


def _label(entry: dict[str, Any]) -> str:
    return str((entry["Config"].get("Labels") or {}).get(SPEC_LABEL, ""))


def new_name(docker_name: str) -> str:
    """What the new container is called until it takes the place of the old one."""
    return f"{docker_name}.new"


def old_name(docker_name: str) -> str:
    """What the old container is called until the new one has shown that it works."""
    return f"{docker_name}.old"


def gone_name(docker_name: str) -> str:
    """What the old container is called from then on: it is only to be removed."""
    return f"{docker_name}.gone"
