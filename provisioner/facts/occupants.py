"""Who would lose what if the host went down now: jobs, containers with GPUs, people."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from provisioner.facts.base import Fact, Output, key_values

UNDER_WAY = ("starting", "running")
CLOCK_SLACK_S = 86_400


@dataclass(frozen=True)
class OccupantFacts:
    """``jobs``: rigup jobs under way, as "JOB of USER", and those that may be;
    ``gpu_containers``: names of running containers that may use GPUs; ``users``: who is logged in
    at a terminal."""

    jobs: tuple[str, ...]
    gpu_containers: tuple[str, ...]
    users: tuple[str, ...]


def _file(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text("utf-8")


SCRIPT = (
    f"""
one={shlex.quote(_file("jobs_of_one.sh"))}
all={shlex.quote(_file("jobs_of_all.sh"))}
"""
    + r"""
printf 'boot|%s|%s\n' "$(cat /proc/sys/kernel/random/boot_id)" "$(sed -n 's/^btime //p' /proc/stat)"
login=${SUDO_USER:-$(id -un)}
home=$(getent passwd "$login" | cut -d: -f6)
case $STATE_DIR in
  /*) own=$STATE_DIR ;;
  "~/"*) own=$home/${STATE_DIR#"~/"} ;;
  *) own=$home/$STATE_DIR ;;
esac
as_root sh -c "$all" sh "$one" "$login" "$own" 2>/dev/null ||
  sh -c "$all" sh "$one" "$login" "$own"
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
)


def parse(output: Output) -> OccupantFacts:
    rows = [line.split("|") for line in output.text.splitlines() if "|" in line]
    boot_id, booted = next((_boot(row) for row in rows if row[0] == "boot"), ("", 0))
    if not boot_id:
        raise ValueError("no boot id")
    jobs = {_job(row, boot_id) for row in rows if row[0] == "job" and len(row) == 4}
    unread = [row for row in rows if row[0] == "unread" and len(row) in (3, 4)]
    jobs |= {_unread(row[1], row[2]) for row in unread if not _is_of_earlier_boot(row, booted)}
    jobs |= {_named(row[1], row[2]) for row in rows if row[0] == "supervised" and len(row) == 3}
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
    return _named(owner, str(PurePosixPath(path).parent))


def _boot(row: list[str]) -> tuple[str, int]:
    """The boot id, and when that was, in seconds since the epoch; 0 where that is not told."""
    told = row[2] if len(row) > 2 else ""
    return row[1], int(told) if told.isascii() and told.isdigit() else 0


def _is_of_earlier_boot(row: list[str], booted: int) -> bool:
    """Certainly: a clock may have been set meanwhile."""
    touched = row[3] if len(row) > 3 else ""
    return touched.isascii() and touched.isdigit() and int(touched) < booted - CLOCK_SLACK_S


def _unread(owner: str, directory: str) -> str:
    return f"{_named(owner, directory)} (its state cannot be read)"


def _named(owner: str, directory: str) -> str:
    return f"{PurePosixPath(directory).name} of {owner}"


def _uses_gpus(told: str) -> bool:
    return any(word in told for word in ("nvidia", '"gpu"'))


OCCUPANTS = Fact("occupants", SCRIPT, parse)
