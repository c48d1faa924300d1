"""How the recorded things look on the host now, in one round trip."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provisioner.actions import run_checked
from provisioner.command import Command
from provisioner.journal import BEFORE
from provisioner.traces import Trace
from provisioner.transport.base import Transport

ABSENT = "absent"
PRESENT = "present"
TIMEOUT_S = 120.0

LOOK = r"""
before=$1 manager=$2 tab=$(printf '\t') packages= released=
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
yes_no() { if "$@" >/dev/null 2>&1; then echo present; else echo absent; fi; }
if [ "$manager" = apt ]; then
  has() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
  holds=$(apt-mark showhold)
  held() { echo "$holds" | grep -qxF -- "$1"; }
else
  has() { rpm -q -- "$1"; }
  held() { has "$1"; }
fi
member() { id -nG -- "$1" | tr ' ' '\n' | grep -qxF -- "$2"; }
content() {
  if [ -L "$1" ]; then echo "link:$(readlink "$1")"
  elif [ -f "$1" ]; then echo "sha256:$(sha256sum < "$1" | cut -d' ' -f1)"
  elif [ -e "$1" ]; then echo other
  else echo absent; fi
}
number=0
while IFS=$tab read -r kind name extra; do
  case $kind in
    package)
      state=$(yes_no has "$name")
      if [ "$state" = present ] && ! grep -qxFs -- "$name" "$before"; then
        packages="$packages $name"
      fi ;;
    hold) state=$(yes_no held "$name") released="$released $name" ;;
    unit) state=$(yes_no systemctl is-enabled -q -- "$name") ;;
    linger) state=$(yes_no test -e "/var/lib/systemd/linger/$name") ;;
    group-member) state=$(yes_no member "$name" "$extra") ;;
    file) state=$(content "$name") ;;
    directory) state=$(yes_no test -d "$name") ;;
    json-keys)
      state=absent
      if [ -f "$name" ]; then state="json:$(head -c 262144 "$name" | base64 | tr -d '\n')"; fi ;;
    *) state=absent ;;
  esac
  printf 'state|%s|%s\n' "$number" "$state"
  number=$((number + 1))
done
[ -n "$packages" ] || exit 0
if [ "$manager" = apt ]; then
  # As it will be without rigup's own holds, which count as a need.
  place=$(mktemp -d)
  status=$place/status
  trap 'rm -rf -- "$place"' EXIT
  awk -v names="$released" '
    BEGIN { count = split(names, list, " "); for (i = 1; i <= count; i++) mine[list[i]] = 1 }
    /^Package: / { package = $2 }
    /^Status: hold / && package in mine { sub("hold", "install") }
    { print }' /var/lib/dpkg/status > "$status"
  # What is only suggested by others came with rigup's packages all the same.
  remove() {
    apt-get -s -q -o Dir::State::status="$status" -o Dir::Cache::pkgcache="$place/packages" \
      -o Dir::Cache::srcpkgcache="$place/sources" -o APT::AutoRemove::SuggestsImportant=false \
      "$@" 2>/dev/null |
      sed -n 's/^Remv \([^ ]*\).*/\1/p'
  }
  # shellcheck disable=SC2086  # names were validated: no blanks in them
  remove remove --allow-change-held-packages $packages | sed 's/^/goes|/'
  # shellcheck disable=SC2086
  remove remove --auto-remove --allow-change-held-packages $packages | sed 's/^/brought|/'
  remove autoremove | sed 's/^/orphan|/'
  apt-mark showmanual | sed 's/^/manual|/'
else
  # shellcheck disable=SC2086
  rpm -e --test -- $packages 2>&1 | sed -n 's/.*is needed by (installed) /needed|/p'
fi
if [ -r "$before" ]; then sed 's/^/before|/' "$before"; fi
exit 0
"""


@dataclass(frozen=True)
class Survey:
    """``states``: by trace. The rest is about the packages among them that are installed:
    ``goes``: what a plain removal takes, ``brought``: that and what nobody needs then;
    ``orphans``: what nobody needed anyway; ``manual``: asked for by a person; ``before``: there
    before rigup's first package; ``needed_by``: what forbids the removal, by rpm."""

    states: Mapping[Trace, str] = field(default_factory=dict)
    goes: frozenset[str] = frozenset()
    brought: frozenset[str] = frozenset()
    orphans: frozenset[str] = frozenset()
    manual: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()
    needed_by: frozenset[str] = frozenset()

    def state(self, trace: Trace) -> str:
        return self.states.get(trace, ABSENT)

    def json_at(self, trace: Trace) -> dict[str, Any] | None:
        """What the JSON file of a json-keys trace holds; None where that is no object."""
        encoded = self.state(trace).removeprefix("json:")
        try:
            value = json.loads(base64.b64decode(encoded, validate=True))
        except (ValueError, binascii.Error, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def look(transport: Transport, traces: Sequence[Trace], manager: str) -> Survey:
    """``manager``: apt, dnf or zypper. Raises CommandFailed or TransportError."""
    lines = "".join(f"{trace.kind}\t{trace.name}\t{_extra(trace)}\n" for trace in traces)
    command = Command.sh(
        LOOK, BEFORE, manager, sudo=True, stdin=lines.encode(), timeout_s=TIMEOUT_S
    )
    return parse(run_checked(transport, command).text, traces)


def parse(text: str, traces: Sequence[Trace]) -> Survey:
    states: dict[Trace, str] = {}
    told: dict[str, set[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition("|")
        if kind == "state":
            number, _, state = rest.partition("|")
            if number.isdigit() and int(number) < len(traces):
                states[traces[int(number)]] = state
        else:
            told.setdefault(kind, set()).add(rest.partition(":")[0])
    return Survey(
        states,
        goes=frozenset(told.get("goes", ())),
        brought=frozenset(told.get("brought", ())),
        orphans=frozenset(told.get("orphan", ())),
        manual=frozenset(told.get("manual", ())),
        before=frozenset(told.get("before", ())),
        needed_by=frozenset(told.get("needed", ())),
    )


def _extra(trace: Trace) -> str:
    return trace.detail if trace.kind == "group-member" else ""
