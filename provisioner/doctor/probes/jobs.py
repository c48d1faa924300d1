"""rigup's jobs that are under way, and whether anybody still watches over them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from provisioner.facts.base import Fact, Output

UNDER_WAY = ("starting", "running")
JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")


@dataclass(frozen=True)
class JobFacts:
    """``watched`` and ``unwatched`` jobs: is the supervisor's process there? ``damaged``: jobs
    whose state cannot be read."""

    watched: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


SCRIPT = r"""
home=$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)
case $STATE_DIR in
  /*) dir=$STATE_DIR ;;
  "~/"*) dir=$home/${STATE_DIR#"~/"} ;;
  *) dir=$home/$STATE_DIR ;;
esac
for file in "$dir"/jobs/*/state.json; do
  [ -e "$file" ] || continue
  grep -Eq '"state": *"(succeeded|failed|stopped|lost|queued)"' "$file" 2>/dev/null && continue
  job=${file%/state.json}
  alive=
  for pid in $(grep -o '"pid": *[0-9]*' "$file" | tr -dc '0-9\n'); do
    read -r _ < "/proc/$pid/stat" 2>/dev/null &&
      alive="$alive $pid:$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)"
  done
  printf 'job|%s|%s|%s\n' "${job##*/}" "$alive" "$(head -c 8192 "$file" | tr '\n|' '  ')"
done
exit 0
"""


def parse(output: Output) -> JobFacts:
    rows = [line.split("|", 3) for line in output.text.splitlines() if line.startswith("job|")]
    found: dict[str, list[str]] = {"watched": [], "unwatched": [], "damaged": []}
    for _, job, alive, text in rows:
        if JOB_ID.fullmatch(job):
            found[_kind(alive, text)].append(job)
    return JobFacts(*(tuple(sorted(found[kind])) for kind in ("watched", "unwatched", "damaged")))


def _kind(alive: str, text: str) -> str:
    try:
        state: Any = json.loads(text)
        if state["state"] not in UNDER_WAY:
            return "damaged"
        supervisor = state.get("supervisor") or {}
        known = f"{supervisor.get('pid')}:{supervisor.get('start_ticks')}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "damaged"
    return "watched" if known in alive.split() else "unwatched"


JOBS = Fact("doctor_jobs", SCRIPT, parse)
