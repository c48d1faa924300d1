"""Who works in a container right now: SSH sessions and programs that removing it would end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.containers.docker_cli import checked, question
from provisioner.errors import BlockedError
from provisioner.text import one_line, printable
from provisioner.transport.base import Transport

SESSION = re.compile(r"sshd(?:-session)?: (?!/)[^ \[]+(?:@\S+)?\Z")
"""The process of one login: ``sshd: ana@pts/0``, or ``sshd: ana`` before there is a terminal."""
OF_THE_CONTAINER = re.compile(
    r"(\S*/)?sshd(-session)?:? |(\S*/)?(docker-init|tini) -- "
    r"|(\S*/)?sh /usr/local/\S*/entrypoint\.sh|-?(\S*/)?(ba|da|z|fi)?sh\Z"
)
"""The container's own processes, and shells that wait for somebody to type."""
NAMED = 3
MAX_SHOWN = 60


@dataclass(frozen=True)
class Activity:
    """``programs``: command lines, the first ones only; ``more``: how many are not named."""

    sessions: int = 0
    programs: tuple[str, ...] = ()
    more: int = 0

    def __bool__(self) -> bool:
        return bool(self.sessions or self.programs)

    def __str__(self) -> str:
        parts = [f"{self.sessions} open SSH session(s)"] if self.sessions else []
        if self.programs:
            shown = ", ".join(printable(program, limit=MAX_SHOWN) for program in self.programs)
            rest = f" and {self.more} more" if self.more else ""
            parts.append(f"running: {shown}{rest}")
        return one_line("; ".join(parts))


def look_inside(transport: Transport, docker_name: str) -> Activity:
    """What goes on in a container; nothing in one that does not run. Raises CommandFailed."""
    words = ("docker", "top", docker_name, "-eo", "pid,args")
    state = ("docker", "container", "inspect", "--format", "{{.State.Status}}", docker_name)
    found = checked(transport, question(*state), missing_is_fine=True)
    if not found.ok or found.text.strip() != "running":
        return Activity()
    return read_top(checked(transport, question(*words)).text)


def require_unused(transport: Transport, docker_name: str, name: str) -> None:
    """Raises BlockedError while anybody works in the container."""
    found = look_inside(transport, docker_name)
    if found:
        raise BlockedError(
            f"the container {name} is in use ({found})",
            host=transport.host_name,
            remedy="end that, or add --yes",
        )


def read_top(text: str) -> Activity:
    """From the output of ``docker top NAME -eo pid,args``."""
    lines = [line.strip().partition(" ")[2].strip() for line in text.splitlines()[1:]]
    programs = [line for line in lines if line and not OF_THE_CONTAINER.match(line)]
    shown = tuple(line[:MAX_SHOWN] for line in programs[:NAMED])
    sessions = sum(bool(SESSION.match(line)) for line in lines)
    return Activity(sessions, shown, len(programs) - len(shown))
