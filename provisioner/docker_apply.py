"""Putting Docker's configuration in place and making the engine read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from provisioner import daemon_json
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.daemon_json import Merge
from provisioner.docker_config import changes_cgroups
from provisioner.errors import StepFailed
from provisioner.facts.docker import UNREAD, DockerFacts
from provisioner.traces import Trace
from provisioner.transport.base import Transport

How = Literal["restart", "reload", "none"]
"""A reload makes dockerd take over live-restore, runtimes and features (docs: dockerd reference,
configuration reload behaviour); log options, limits, cgroup driver and data-root need a restart."""
RESTART_TIMEOUT_S = 600.0
"""Docker's own unit waits for ever (TimeoutStartSec=0). The script below gives Docker less than
half of this, so that it can put the old file back where Docker hangs with the new one."""

RESTART = Run(
    Command.sh(
        "systemctl reset-failed docker.service 2>/dev/null; "  # else: "attempted too often"
        'systemctl restart docker.service && rm -f -- "$1"',
        UNREAD,
        sudo=True,
        timeout_s=RESTART_TIMEOUT_S,
    ),
    "systemctl restart docker.service",
)

RELOAD = Run(
    Command.sh(
        'mkdir -p -- "$(dirname -- "$1")" && : > "$1" && systemctl reload docker.service',
        UNREAD,
        sudo=True,
        timeout_s=60,
    ),
    "systemctl reload docker.service",
)
"""The restart that must follow is on record."""

SCRIPT = r"""
set -eu
file=$1 expected=$2 how=$3 unread=$4
target=$(readlink -f "$file" || echo "$file")
new=$target.rigup-new
old=$target.rigup-old
mkdir -p "$(dirname "$target")" "$(dirname "$unread")"
trap 'rm -f -- "$new"' EXIT
cat > "$new"
present=none
[ ! -e "$target" ] || present=$(sha256sum < "$target" | cut -c -64)
if [ "$present" != "$expected" ]; then
  echo "$file was changed meanwhile; nothing was done" >&2
  exit 75
fi
chmod 644 "$new"
if [ "$present" != none ]; then
  chmod --reference="$target" "$new"
  chown --reference="$target" "$new"
fi
if dockerd --help 2>/dev/null | grep -q -e --validate; then
  told=$(dockerd --validate --config-file "$new" 2>&1) || {
    printf '%s\n' "$told" "$file stays as it was" >&2
    exit 65
  }
fi
if [ "$present" != none ]; then
  cp -p -- "$target" "$target.rigup-backup-$(date -r "$target" +%Y%m%dT%H%M%S)"
  cp -p -- "$target" "$old"
fi
[ "$how" = none ] || : > "$unread"
sync "$new" 2>/dev/null || sync
mv -f -- "$new" "$target"
put_back() {
  echo "Docker does not come up with the merged $file:" >&2
  journalctl -u docker.service -n 40 -o cat --no-pager 2>/dev/null |
    grep -E 'unable|fail|error' | tail -n 4 >&2 || true
  if [ "$present" = none ]; then rm -f -- "$target"; else mv -f -- "$old" "$target"; fi
  rm -f -- "$unread"
  systemctl reset-failed docker.service docker.socket 2>/dev/null || true
  if timeout 270 systemctl "$how" docker.service; then
    echo "the file is as it was, and Docker runs with it" >&2
  else
    echo "the file is as it was, but Docker does not come up with it either" >&2
  fi
  exit 76
}
case $how in
  restart)
    systemctl reset-failed docker.service 2>/dev/null || true
    timeout 270 systemctl restart docker.service || put_back
    rm -f -- "$unread"
    ;;
  reload) timeout 270 systemctl reload docker.service || put_back ;;
esac
rm -f -- "$old"
"""


@dataclass(frozen=True)
class ConfigureDocker:
    """Replace daemon.json by its merge: whole or not at all, checked by dockerd where it can, with
    a backup beside. If Docker does not come up with it, the old file is put back and this fails.

    ``digest``: SHA-256 of the file that was merged, None where there was none: a file that somebody
    changed meanwhile is left alone.
    """

    merge: Merge
    digest: str | None
    how: How
    label: str = "merge /etc/docker/daemon.json"

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("json-keys", daemon_json.PATH, self.merge.trace),)

    def describe(self) -> str:
        keys = ", ".join(f"{wish.key}: {json.dumps(wish.value)}" for wish in self.merge.added)
        then = "" if self.how == "none" else f", systemctl {self.how} docker.service"
        return f"merge {keys} into {daemon_json.PATH}{then}"

    def apply(self, transport: Transport) -> None:
        command = Command.sh(
            SCRIPT,
            *(daemon_json.PATH, self.digest or "none", self.how, UNREAD),
            sudo=True,
            stdin=self.merge.text.encode(),
            timeout_s=RESTART_TIMEOUT_S,
        )
        result = transport.run(command)
        if not result.ok:
            raise StepFailed(
                result.tail or f"{daemon_json.PATH} could not be merged",
                host=transport.host_name,
                remedy="journalctl -u docker.service; then provision again",
            )


def is_ours(docker: DockerFacts) -> bool:
    """An engine whose configuration is /etc/docker/daemon.json and that systemd starts, or none."""
    if docker.rootless:
        return False
    return docker.active or docker.server_version is None


def may_restart(docker: DockerFacts) -> bool:
    """Would a restart with the same cgroup driver stop no container?"""
    return not docker.containers_running or docker.live_restore


def how_to_read(docker: DockerFacts, wanted: Merge) -> How | None:
    """How the engine comes to read ``wanted``, None where that would stop running containers.

    They survive a restart with live-restore on, but none that changes their cgroups. Where it is
    off, a reload turns it on, which stops nothing: the restart comes after that.
    """
    if docker.server_version is None and not docker.active:
        return "none"
    if docker.containers_running and changes_cgroups(docker, wanted.content):
        return None
    if may_restart(docker):
        return "restart"
    possible = wanted.content.get("live-restore") is True and not docker.swarm
    return "reload" if possible else None


def read_actions(docker: DockerFacts, wanted: Merge, how: How) -> tuple[Action, ...]:
    """Merge what is missing, and make the engine read it."""
    if wanted.added:
        return (ConfigureDocker(wanted, docker.daemon_digest, how),)
    return {"none": (), "reload": (RELOAD,), "restart": (RESTART,)}[how]
