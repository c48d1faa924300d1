"""Who would lose what if the host went down now: jobs, containers with GPUs, people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from provisioner.facts.base import Fact, Output, key_values

UNDER_WAY = ("starting", "running")


@dataclass(frozen=True)
class OccupantFacts:
    """``jobs``: rigup jobs under way, as "JOB of USER", and those that may be;
    ``gpu_containers``: names of running
    containers that may use GPUs; ``users``: who is logged in at a terminal."""

    jobs: tuple[str, ...]
    gpu_containers: tuple[str, ...]
    users: tuple[str, ...]


SCRIPT = r"""
printf 'boot|%s\n' "$(cat /proc/sys/kernel/random/boot_id)"
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
case $STATE_DIR in
  /*) own=$STATE_DIR ;;
  "~/"*) own=$home/${STATE_DIR#"~/"} ;;
  *) own=$home/$STATE_DIR ;;
esac
booted=$(sed -n 's/^btime //p' /proc/stat)
find_jobs='
booted=$1; shift
for dir; do
  for job in "$dir"/jobs/*/; do
    [ -d "$job" ] || continue
    file=${job}state.json
    if ! grep -Eqs "\"state\": *\"[a-z]+\"" "$file"; then
      touched=$(stat -c %Y "$file" 2>/dev/null || stat -c %Y "$job" 2>/dev/null || echo 0)
      [ "$touched" -ge "${booted:-0}" ] && printf "unread|%s|%s\n" "$(stat -c %U "$job")" "$job"
      continue
    fi
    grep -Eqs "\"state\": *\"(starting|running)\"" "$file" || continue
    printf "job|%s|%s|%s\n" "$(stat -c %U "$file")" "$file" "$(head -c 65536 "$file" | tr -d "\n|")"
  done
done'
IFS='
'
set -f
set -- "$own" $(getent passwd | cut -d: -f6 | sort -u | sed 's|$|/.rigup|')
set +f
unset IFS
as_root sh -c "$find_jobs" sh "$booted" "$@" 2>/dev/null ||
  sh -c "$find_jobs" sh "$booted" "$@"
if command -v docker >/dev/null; then
  ids=$(limited docker ps -q 2>/dev/null || as_root timeout 20 docker ps -q 2>/dev/null)
  form='container|{{.Name}}|{{.HostConfig.Runtime}} {{json .HostConfig.DeviceRequests}}'
  form="$form "'{{json .HostConfig.Devices}}'
  [ -z "$ids" ] || limited docker inspect --format "$form" $ids 2>/dev/null ||
    as_root timeout 20 docker inspect --format "$form" $ids 2>/dev/null
fi
for session in $(loginctl list-sessions --no-legend 2>/dev/null | awk '{print $1}'); do
  told=$(loginctl show-session "$session" -p Name -p TTY 2>/dev/null | tr '\n' ' ')
  printf 'session|%s\n' "$told"
done
exit 0
"""


def parse(output: Output) -> OccupantFacts:
    rows = [line.split("|") for line in output.text.splitlines() if "|" in line]
    boot_id = next((row[1] for row in rows if row[0] == "boot"), "")
    if not boot_id:
        raise ValueError("no boot id")
    jobs = {_job(row, boot_id) for row in rows if row[0] == "job" and len(row) == 4}
    jobs |= {_unread(row[1], row[2]) for row in rows if row[0] == "unread" and len(row) == 3}
    containers = [row for row in rows if row[0] == "container" and len(row) == 3]
    people = [key_values("\n".join(row[1].split())) for row in rows if row[0] == "session"]
    return OccupantFacts(
        jobs=tuple(sorted(job for job in jobs if job)),
        gpu_containers=tuple(row[1].lstrip("/") for row in containers if _uses_gpus(row[2])),
        users=tuple(sorted({one.get("Name", "?") for one in people if one.get("TTY")})),
    )


def _job(row: list[str], boot_id: str) -> str:
    """Empty for a job that an earlier boot left behind: it is over, nobody has written so yet.
    Records that cannot be read may belong to a program that runs."""
    _, owner, path, text = row
    try:
        state: Any = json.loads(text)
    except (ValueError, RecursionError):
        return _unread(owner, str(PurePosixPath(path).parent))
    under_way = isinstance(state, dict) and state.get("state") in UNDER_WAY
    if not under_way or state.get("boot_id") != boot_id:
        return ""
    return f"{PurePosixPath(path).parent.name} of {owner}"


def _unread(owner: str, directory: str) -> str:
    return f"{PurePosixPath(directory).name} of {owner} (its state cannot be read)"


def _uses_gpus(told: str) -> bool:
    return any(word in told for word in ("nvidia", '"gpu"'))


OCCUPANTS = Fact("occupants", SCRIPT, parse)
