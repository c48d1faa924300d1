"""What rigup put on a host, written down there before it is done: /var/lib/rigup/journal.jsonl.

One JSON object a line: ``step``, ``kind``, ``name``, ``detail`` (see :mod:`provisioner.traces`)
and ``at``. What was there before is never recorded, so it can never be taken away: a package that
is installed, a file that exists and is not in the journal, a unit that is enabled. A run that is
killed between the record and the deed leaves a record of something that did not happen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import get_args

from provisioner.actions import Action, run_checked
from provisioner.command import Command
from provisioner.facts import LOGIN, PACKAGES, Facts
from provisioner.traces import Kind, Trace
from provisioner.transport.base import Transport

PATH = "/var/lib/rigup/journal.jsonl"
FILE = PurePosixPath(PATH)
BEFORE = "/var/lib/rigup/packages-before"
"""Names of all packages that were installed when rigup installed its first one."""

RECORD = r"""
set -eu
umask 022
journal=$1 before=$2 manager=$3 tab=$(printf '\t')
mkdir -p "$(dirname "$journal")"
[ -e "$journal" ] || : > "$journal"
if [ "$manager" = apt ]; then
  list() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p'; }
  has() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
  held() { apt-mark showhold | grep -qxF -- "$1"; }
elif [ "$manager" = none ]; then
  list() { :; }
  has() { false; }
  held() { false; }
else
  list() { rpm -qa --qf '%{NAME}\n'; }
  has() { rpm -q -- "$1" >/dev/null 2>&1; }
  held() { false; }
fi
there() {
  case $1 in
    package) has "$2" ;;
    file | directory) [ -e "$2" ] || [ -L "$2" ] ;;
    unit) systemctl is-enabled -q -- "$2" 2>/dev/null ;;
    hold) held "$2" ;;
    linger) [ -e "/var/lib/systemd/linger/$2" ] ;;
    group-member) id -nG -- "$2" 2>/dev/null | tr ' ' '\n' | grep -qxF -- "$3" ;;
    *) false ;;
  esac
}
new=$(
  while IFS=$tab read -r kind name extra record at; do
    grep -qF -- "$record" "$journal" && continue
    case $kind in
      file) there file "$name" && ! grep -qF -- "$extra" "$journal" && continue ;;
      *) there "$kind" "$name" "$extra" && continue ;;
    esac
    printf '%s%s\n' "$record" "$at"
  done
)
[ -n "$new" ] || exit 0
case $new in *'"kind": "package"'*)
  if [ ! -e "$before" ]; then
    list | sort -u > "$before.new"
    sync "$before.new"
    mv "$before.new" "$before"
  fi ;;
esac
[ -z "$(tail -c 1 "$journal")" ] || echo >> "$journal"
printf '%s\n' "$new" >> "$journal"
sync "$journal" 2>/dev/null || sync
"""

KINDS = get_args(Kind)
UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """One line. ``step`` is the name of the step that did it, ``at`` when (ISO 8601, UTC)."""

    step: str
    trace: Trace
    at: str = ""


def record(
    transport: Transport,
    step: str,
    actions: Sequence[Action],
    facts: Facts,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> None:
    """Write down what ``actions`` will leave on the host, in one round trip; none where they
    leave nothing. Raises CommandFailed or TransportError: then nothing may be applied."""
    traces = [_located(trace, facts) for action in actions for trace in action.traces]
    if not traces:
        return
    at = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = "".join(_line(step, trace, at) for trace in dict.fromkeys(traces))
    words = (PATH, BEFORE, facts[PACKAGES].manager or "none")
    run_checked(transport, Command.sh(RECORD, *words, sudo=True, stdin=lines.encode()))


def parse(text: str) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The entries, oldest first, and a complaint for each line that is none."""
    entries: list[Entry] = []
    complaints: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entries.append(_entry(line))
        except (ValueError, RecursionError) as error:
            complaints.append(f"line {number} of {PATH}: {error}")
    return tuple(entries), tuple(complaints)


def render(entries: Iterable[Entry]) -> str:
    return "".join(_start(item.step, item.trace) + _end(item.at) + "\n" for item in entries)


def _located(trace: Trace, facts: Facts) -> Trace:
    """Paths that are relative or begin with ``~/`` lie in the login user's home."""
    if trace.kind not in ("file", "directory") or trace.name.startswith("/"):
        return trace
    home = facts[LOGIN].home.rstrip("/")
    return Trace(trace.kind, f"{home}/{trace.name.removeprefix('~/')}", trace.detail)


def _line(step: str, trace: Trace, at: str) -> str:
    """Tab-separated for the script; JSON escapes tabs and newlines."""
    if UNSAFE.search(trace.name):
        raise ValueError(f"a trace's name with control characters: {trace.name!r}")
    extra = trace.detail if trace.kind == "group-member" else json.dumps(trace.name)
    return "\t".join((trace.kind, trace.name, extra, _start(step, trace), _end(at))) + "\n"


def _start(step: str, trace: Trace) -> str:
    """All but the time, by which the script sees that a line is there already."""
    fields = {"step": step, "kind": trace.kind, "name": trace.name, "detail": trace.detail}
    return json.dumps(fields).removesuffix("}")


def _end(at: str) -> str:
    return f', "at": {json.dumps(at)}}}'


def _entry(line: str) -> Entry:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    texts = {key: value.get(key, "") for key in ("step", "kind", "name", "detail", "at")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("fields that are no text")
    if texts["kind"] not in KINDS:
        raise ValueError(f"unknown kind {texts['kind'][:40]!r}")
    if not texts["name"] or UNSAFE.search(texts["name"]):
        raise ValueError("no name, or one with control characters")
    trace = Trace(texts["kind"], texts["name"], texts["detail"])
    return Entry(texts["step"], trace, texts["at"])
