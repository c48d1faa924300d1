"""What taking back does, as actions that read well before they are done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.traces import Trace
from provisioner.transport.base import Transport
from provisioner.transport.upload import put_command

REMOVE = """\
rm -f -- "$1"
case $1 in /etc/systemd/system/*.d/*) rmdir --ignore-fail-on-non-empty -- "${1%/*}" ;; esac
"""
REMOVE_AGENTS = """\
find "$1" -maxdepth 1 -type f -regextype posix-extended -regex '.*/[0-9a-f]{64}\\.pyz' -delete
if [ -L "$1/current.pyz" ]; then rm -f -- "$1/current.pyz"; fi
rmdir --ignore-fail-on-non-empty -- "$1"
"""
TIDY = r"""
command -v dpkg-query >/dev/null || exit 0
unchanged() {
  dpkg-query -W -f '${Conffiles}\n' "$1" | while read -r file digest state; do
    if [ -z "$file" ] || [ ! -e "$file" ] || [ "$state" = obsolete ]; then continue; fi
    [ "$(md5sum < "$file" | cut -d' ' -f1)" = "$digest" ] || { echo changed; break; }
  done
}
purged=
for package; do
  case $package in *docker* | *containerd* | moby*) continue ;; esac
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = config-files ] || continue
  [ -n "$(unchanged "$package")" ] || purged="$purged $package"
done
# shellcheck disable=SC2086
[ -z "$purged" ] || DEBIAN_FRONTEND=noninteractive dpkg --purge $purged > /dev/null
"""


@dataclass(frozen=True)
class RemoveFile:
    path: str
    sudo: bool = True
    label: str = ""
    traces: tuple[Trace, ...] = ()

    def describe(self) -> str:
        return f"remove {self.path}"

    def apply(self, transport: Transport) -> None:
        run_checked(transport, Command.sh(REMOVE, self.path, sudo=self.sudo))


@dataclass(frozen=True)
class RestoreFile:
    """Write the content that a file has without rigup's keys."""

    path: PurePosixPath
    content: str
    label: str = ""
    traces: tuple[Trace, ...] = ()

    def describe(self) -> str:
        return f"take rigup's keys out of {self.path}"

    def apply(self, transport: Transport) -> None:
        run_checked(transport, put_command(self.content.encode(), self.path, sudo=True))


@dataclass(frozen=True)
class RemoveAgents:
    """The agent's builds in a directory, and the directory where it is empty then. As the login
    user: the directory is theirs."""

    path: str
    label: str = ""
    traces: tuple[Trace, ...] = ()

    def describe(self) -> str:
        return f"remove the agent's builds in {self.path}"

    def apply(self, transport: Transport) -> None:
        run_checked(transport, Command.sh(REMOVE_AGENTS, self.path))


@dataclass(frozen=True)
class Tidy:
    """Purge removed packages of dpkg's whose configuration files nobody changed.

    Never Docker's or containerd's: purging docker.io deletes /var/lib/docker (its postrm calls
    nuke-graph-directory.sh; Debian 12 and 13).
    """

    packages: tuple[str, ...]
    label: str = ""
    traces: tuple[Trace, ...] = ()

    def describe(self) -> str:
        return "dpkg --purge those of them whose configuration files nobody changed"

    def apply(self, transport: Transport) -> None:
        run_checked(transport, Command.sh(TIDY, *self.packages, sudo=True, timeout_s=600))
