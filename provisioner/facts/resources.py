"""What an installation uses up or leans on: disk space, the clock, the right to become root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from provisioner.facts.base import Fact, Output


@dataclass(frozen=True)
class Space:
    """What is free on one mounted file system: bytes for users (root's reserve left out) and
    files, None where it does not count files."""

    free_bytes: int
    free_files: int | None = None
    read_only: bool = False


@dataclass(frozen=True)
class ResourceFacts:
    """``mounts``: mount point -> its space, None where that is not asked (network file systems,
    which may hang). ``clock_ahead_s``: the host's clock minus this machine's, negative where it is
    behind. ``admins``: local members of the groups whose members usually may use sudo."""

    mounts: Mapping[str, Space | None]
    clock_ahead_s: int = 0
    sudo_installed: bool = True
    admins: tuple[str, ...] = ()

    def mount_of(self, path: str) -> str:
        """The mount point that ``path`` lies on or would lie on."""
        above = (path, *(str(parent) for parent in PurePosixPath(path).parents))
        return next((point for point in above if point in self.mounts), "/")


SCRIPT = r"""
printf 'clock|%s\n' "$(( $(date +%s) - ${CLIENT_TIME:-$(date +%s)} ))"
command -v sudo >/dev/null && echo 'sudo|'
sed -n 's/^\(sudo\|wheel\|admin\):.*:/admins|/p' /etc/group
points=
while read -r _ point type options _; do
  case $type in
    nfs*|cifs|smb*|9p|ceph|glusterfs|lustre|gpfs|beegfs|afs|autofs|fuse*)
      printf 'remote|%s\n' "$point"
      continue ;;
  esac
  case $options in ro|ro,*) printf 'ro|%s\n' "$point" ;; esac
  points="$points $point"
done <<MOUNTS
$(grep -vE '^[^ ]+ (/(proc|sys|dev|run|snap|etc)[ /]|[^ ]*(/(docker|container[ds])/|\\|[*?[]))' \
  /proc/self/mounts | head -n 64)
MOUNTS
[ -z "$points" ] || limited stat -f -c 'fs|%S|%a|%c|%d|%n' -- $points
exit 0
"""


def parse(output: Output) -> ResourceFacts:
    rows = [line.split("|") for line in output.text.splitlines() if "|" in line]
    read_only = {row[1] for row in rows if row[0] == "ro"}
    mounts: dict[str, Space | None] = {row[1]: None for row in rows if row[0] == "remote"}
    for row in rows:
        if row[0] == "fs":
            block, free, files, free_files = map(int, row[1:5])
            point = "|".join(row[5:])
            counted = free_files if files > 0 else None
            mounts[point] = Space(block * free, counted, point in read_only)
    if "/" not in mounts:
        raise ValueError("the host does not tell what its disks hold")
    names = {name for row in rows if row[0] == "admins" for name in row[1].split(",") if name}
    return ResourceFacts(
        mounts=mounts,
        clock_ahead_s=_clock(rows),
        sudo_installed=any(row[0] == "sudo" for row in rows),
        admins=tuple(sorted(names)),
    )


def _clock(rows: list[list[str]]) -> int:
    for row in rows:
        if row[0] == "clock":
            return int(row[1])
    raise ValueError("the host tells no clock")


RESOURCES = Fact("resources", SCRIPT, parse)
