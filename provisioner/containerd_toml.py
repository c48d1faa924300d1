"""Where containerd keeps images: Docker 29 and newer leave them to it (docs: storage/containerd),
so that Docker's data-root alone does not move them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath

from inventory import Host
from provisioner.command import Command
from provisioner.daemon_json import KeyConflict
from provisioner.errors import StepFailed
from provisioner.facts.docker import DockerFacts
from provisioner.traces import Trace
from provisioner.transport.base import Transport

PATH = PurePosixPath("/etc/containerd/config.toml")
TIMEOUT_S = 300.0
SCRIPT = r"""
set -eu
file=$1
export LINE="root = $2"
others=
for space in $(ctr namespaces ls -q); do
  case $space in moby | plugins.moby) continue ;; esac
  [ -z "$(ctr -n "$space" containers ls -q; ctr -n "$space" images ls -q)" ] ||
    others="$others $space"
done
if [ -n "$others" ]; then
  echo "containerd keeps images of others too (namespaces$others), which would be lost to them" >&2
  exit 75
fi
mkdir -p "$(dirname "$file")"
new=$file.rigup-new old=$file.rigup-old
trap 'rm -f -- "$new"' EXIT
rm -f -- "$old"
if [ -e "$file" ]; then
  cp -p -- "$file" "$new"
  awk '!done && /^[ \t]*\[/ { print ENVIRON["LINE"]; done = 1 }
    { print }
    END { if (!done) print ENVIRON["LINE"] }' "$file" > "$new"
  cp -p -- "$file" "$file.rigup-backup-$(date -r "$file" +%Y%m%dT%H%M%S)"
  cp -p -- "$file" "$old"
else
  printf 'version = 2\n%s\n' "$LINE" > "$new"  # containerd 1.6 to 2.x read this version
  chmod 644 "$new"
fi
sync "$new" 2>/dev/null || sync
mv -f -- "$new" "$file"
systemctl restart containerd.service || {
  if [ -e "$old" ]; then mv -f -- "$old" "$file"; else rm -f -- "$file"; fi
  systemctl reset-failed containerd.service 2>/dev/null || true
  echo "containerd does not come up with another root; $file is as it was" >&2
  systemctl restart containerd.service || echo "nor does it with its own" >&2
  exit 76
}
rm -f -- "$old"
"""


@dataclass(frozen=True)
class ConfigureContainerd:
    """Set containerd's root, a line before the first table, and restart it. Where others keep
    images there too (Kubernetes, nerdctl), or containerd does not come up, everything is as it was
    and this fails.
    """

    root: str
    label: str = "set containerd's root"

    @property
    def traces(self) -> tuple[Trace, ...]:
        return (Trace("command", f"set root to {self.root} in {PATH}"),)

    def describe(self) -> str:
        return f"set root = {json.dumps(self.root)} in {PATH}, systemctl restart containerd.service"

    def apply(self, transport: Transport) -> None:
        words = (SCRIPT, str(PATH), json.dumps(self.root))
        result = transport.run(Command.sh(*words, sudo=True, timeout_s=TIMEOUT_S))
        if not result.ok:
            raise StepFailed(
                result.tail or f"{PATH} could not be changed",
                host=transport.host_name,
                remedy="take docker_data_root out of the inventory, or move containerd's root by "
                "hand; journalctl -u containerd.service",
            )


def containerd_action(docker: DockerFacts, host: Host) -> ConfigureContainerd | None:
    """None where nothing is to be done. Raises KeyConflict for a root that somebody else set."""
    if host.docker_data_root is None or not docker.containerd_store:
        return None
    root = f"{host.docker_data_root}/containerd-root"
    if docker.containerd_root not in (None, root):
        raise KeyConflict(f"root in {PATH}", docker.containerd_root)
    return None if docker.containerd_root == root else ConfigureContainerd(root)
