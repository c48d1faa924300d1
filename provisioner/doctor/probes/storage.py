"""How much room there is where it matters: in the file systems of rigup's, Docker's and the user's
directories."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

ANSWER_WITHIN_S = 10
"""A network file system whose server is gone answers nothing at all."""


@dataclass(frozen=True)
class Place:
    """``what`` lies at ``path``, on the file system that is mounted at ``mount``. Bytes are those
    for users (root's reserve left out). ``free_files`` is None where files are not counted."""

    what: str
    path: str
    mount: str
    free_bytes: int
    total_bytes: int
    free_files: int | None
    read_only: bool


@dataclass(frozen=True)
class StorageFacts:
    """``silent``: (what, path) of file systems that did not answer in time."""

    places: tuple[Place, ...]
    silent: tuple[tuple[str, str], ...] = ()


# A directory that is not there yet lies where the one above it does. All are asked at once.
SCRIPT = rf"""
user=${{SUDO_USER:-$(id -un)}}
home=$(getent passwd "$user" | cut -d: -f6)
case $STATE_DIR in
  /*) dir=$STATE_DIR ;;
  "~/"*) dir=$home/${{STATE_DIR#"~/"}} ;;
  *) dir=$home/$STATE_DIR ;;
esac
file=/etc/docker/daemon.json root=
settings=$(cat $file 2>/dev/null || as_root cat $file 2>/dev/null)
root=$(printf '%s' "$settings" | sed -n 's/.*"data-root"[^"]*"\([^"]*\)".*/\1/p' | head -n 1)
look='
path=$2
while [ ! -e "$path" ] && [ ! -L "$path" ] && [ "$path" != / ]; do path=$(dirname -- "$path"); done
mount=$(df --output=target -- "$path" | tail -n 1)  # stat %m would have to enter the directory
numbers=$(stat -f -c "%S|%a|%b|%d|%c" -- "$path") && [ -n "$mount" ] || exit 1
options=$(while read -r _ point _ told _; do
  [ "$point" = "$mount" ] && kept=$told
done 2>/dev/null </proc/self/mounts; echo "$kept")
case $options in ro|ro,*) ro=1 ;; *) ro=0 ;; esac
printf "place|%s|%s|%s|%s|%s\n" "$1" "$numbers" "$ro" "$mount" "$2"
'
limit=
command -v timeout >/dev/null && limit='timeout {ANSWER_WITHIN_S}'
ask() {{ $limit sh -c "$look" sh "$1" "$2" 2>/dev/null || printf 'silent|%s|%s\n' "$1" "$2"; }}
ask system / &
ask system /var &
ask 'temporary files' /tmp &
ask home "${{home:-/}}" &
ask "rigup's state" "$dir" &
command -v docker >/dev/null && ask "Docker's data" "${{root:-/var/lib/docker}}" &
command -v containerd >/dev/null && ask "containerd's data" /var/lib/containerd &
wait
"""


def parse(output: Output) -> StorageFacts:
    rows = [line.split("|") for line in output.text.splitlines()]
    silent = [(row[1], "|".join(row[2:])) for row in rows if row[0] == "silent"]
    places = [_place(row) for row in rows if row[0] == "place"]
    if not places and not silent:
        raise ValueError("the host does not tell what its disks hold")
    return StorageFacts(
        tuple(sorted(places, key=lambda one: (one.mount, one.path))), tuple(sorted(silent))
    )


def _place(row: list[str]) -> Place:
    size, free, total, free_files, files = map(int, row[2:7])
    if len(row) < 10:
        raise ValueError("a place that is cut in the middle")
    return Place(
        what=row[1],
        path="|".join(row[9:]),
        mount=row[8],
        free_bytes=size * free,
        total_bytes=size * total,
        free_files=free_files if files > 0 else None,
        read_only=row[7] == "1",
    )


STORAGE = Fact("doctor_storage", SCRIPT, parse, slow=True)
