"""May the login user use Docker, now and in the processes that started before?"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

GROUP = "docker"


@dataclass(frozen=True)
class DockerAccessFacts:
    """``installed``: is there an engine whose socket belongs to a group? ``member``: in the user
    database. ``session``, ``manager``: does this login session, and the user's service manager
    (which starts jobs after a boot), have the group; None where that cannot be told.
    ``writable``: the socket, by other means than the group."""

    installed: bool
    member: bool = False
    session: bool | None = None
    manager: bool | None = None
    writable: bool = False


SCRIPT = rf"""
user=${{SUDO_USER:-$(id -un)}}
gid=$(getent group {GROUP} | cut -d: -f3)
{{ command -v docker && command -v dockerd && [ -n "$gid" ]; }} >/dev/null || exit 0
echo 'installed|'
has() {{ case " $2 " in *" $gid "*) echo "$1|1" ;; *) echo "$1|0" ;; esac; }}
has member "$(id -G "$user")"
if [ -z "$SUDO_USER" ]; then
  has session "$(id -G)"
  [ -w /run/docker.sock ] && echo 'writable|1'
fi
pid=$(systemctl show -p MainPID --value "user@$(id -u "$user").service" 2>/dev/null)
if [ "${{pid:-0}}" -gt 0 ] 2>/dev/null && [ -r "/proc/$pid/status" ]; then
  has manager "$(sed -n 's/^Groups:[[:space:]]*//p' "/proc/$pid/status")"
fi
exit 0
"""


def parse(output: Output) -> DockerAccessFacts:
    values = dict(line.split("|", 1) for line in output.text.splitlines() if "|" in line)
    if "installed" not in values:
        return DockerAccessFacts(installed=False)
    return DockerAccessFacts(
        installed=True,
        member=values["member"] == "1",
        session=_told(values.get("session")),
        manager=_told(values.get("manager")),
        writable=values.get("writable") == "1",
    )


def _told(value: str | None) -> bool | None:
    return None if value is None else value == "1"


DOCKER_ACCESS = Fact("docker_access", SCRIPT, parse)
