"""The directories that the inventory wants on the host, and whether their disks are mounted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from provisioner.facts.base import Fact, Output


@dataclass(frozen=True)
class Directory:
    """``kind`` as stat(1) says it, None where there is nothing (or nothing that may be seen).
    ``empty``: but for the lost+found of a fresh file system.
    ``writable``: for the login user. ``unmounted``: a mount point of fstab(5) at or above it that
    nothing is mounted on, so that what is put there would land on the disk below."""

    kind: str | None = None
    owner: str | None = None
    empty: bool = False
    writable: bool = False
    unmounted: str | None = None


@dataclass(frozen=True)
class DirectoryFacts:
    """Path -> what is there; only of paths that were asked for."""

    found: Mapping[str, Directory] = field(default_factory=dict)


SCRIPT = r"""
[ -n "${DIRECTORIES-}" ] || exit 0
user=${SUDO_USER:-$(id -un)}
as_user() { if [ "$(id -un)" = "$user" ]; then "$@"; else runuser -u "$user" -- "$@"; fi; }
sed -n 's/^[[:space:]]*[^#[:space:]]\{1,\}[[:space:]]\{1,\}\([^[:space:]]*\).*/fstab|\1/p' \
  /etc/fstab 2>/dev/null
sed 's/^[^ ]* \([^ ]*\) .*/mount|\1/' /proc/self/mounts
printf '%s\n' "$DIRECTORIES" | while IFS= read -r path; do
  printf 'path|%s\nreal|%s\n' "$path" "$(limited readlink -m -- "$path")"
  kind=$(limited stat -L -c %F -- "$path" 2>/dev/null) || continue
  printf 'kind|%s\nowner|%s\n' "$kind" "$(stat -L -c %U -- "$path")"
  [ -z "$(limited ls -A -I lost+found -- "$path" 2>&1 | head -n 1)" ] && echo 'empty|'
  as_user test -w "$path" 2>/dev/null && echo 'writable|'
done
exit 0
"""


def parse(output: Output) -> DirectoryFacts:
    lines = [line.partition("|")[::2] for line in output.text.split("\n")]
    points = [_plain(value) for key, value in lines if key == "fstab"]
    mounted = {_plain(value) for key, value in lines if key == "mount"}
    missing = [point for point in points if point.startswith("/") and point not in mounted]
    found: dict[str, Directory] = {}
    path = ""
    for key, value in lines:
        if key == "path":
            path = value
            found[path] = Directory(unmounted=_covering(missing, path))
        elif key == "real" and found[path].unmounted is None:
            found[path] = replace(found[path], unmounted=_covering(missing, value))
        elif key == "kind":
            found[path] = replace(found[path], kind=value)
        elif key == "owner":
            found[path] = replace(found[path], owner=value)
        elif key == "empty":
            found[path] = replace(found[path], empty=True)
        elif key == "writable":
            found[path] = replace(found[path], writable=True)
    return DirectoryFacts(found)


def _covering(points: Iterable[str], path: str) -> str | None:
    """The deepest of these mount points at or above ``path``; the root is always mounted."""
    above = [p for p in points if p != "/" and f"{path}/".startswith(f"{p.rstrip('/')}/")]
    return max(above, key=len, default=None)


def _plain(field: str) -> str:
    """fstab(5) and proc(5) write a space as ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


DIRECTORIES = Fact("directories", SCRIPT, parse)
