"""The Docker engine: is it there, does it answer, which runtimes does it know."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from provisioner.facts.base import Fact, NeedsRoot, Output


@dataclass(frozen=True)
class DockerFacts:
    """``error``: why an installed engine does not answer. ``daemon_json``: None where absent."""

    installed: bool
    active: bool
    enabled: bool
    server_version: str | None
    runtimes: tuple[str, ...]
    cgroup_driver: str | None
    daemon_json: dict[str, Any] | None
    error: str | None
    snap: bool
    containers_running: int = 0


SCRIPT = r"""
command -v docker >/dev/null && echo installed=1
[ -d /snap/docker ] && echo snap=1
systemctl is-active -q docker 2>/dev/null && echo active=1
systemctl is-enabled -q docker 2>/dev/null && echo enabled=1
file=/etc/docker/daemon.json
if [ -e "$file" ]; then
  if daemon=$(cat "$file" 2>/dev/null || as_root cat "$file"); then
    printf 'daemon=%s\n' "$(printf '%s' "$daemon" | tr '\n' ' ')"
  else
    echo daemon_unreadable=1
  fi
fi
if command -v docker >/dev/null; then
  ask() { "$@" timeout 20 docker info --format '{{json .}}' 2>&1 | tr '\n' ' '; }
  info=$(ask env)
  case $info in *"permission denied"*) info=$(ask as_root) ;; esac
  printf 'info=%s\n' "$info"
fi
exit 0
"""


def parse(output: Output) -> DockerFacts:
    values = dict(line.split("=", 1) for line in output.text.splitlines() if "=" in line)
    if "daemon_unreadable" in values:
        raise ValueError("/etc/docker/daemon.json may not be read")
    info, error = _info(values.get("info"))
    return DockerFacts(
        installed="installed" in values,
        active="active" in values,
        enabled="enabled" in values,
        server_version=info.get("ServerVersion") or None,
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        cgroup_driver=info.get("CgroupDriver"),
        daemon_json=_daemon(values.get("daemon")),
        error=error,
        snap="snap" in values,
        containers_running=int(info.get("ContainersRunning") or 0),
    )


def _info(text: str | None) -> tuple[dict[str, Any], str | None]:
    if text is None:
        return {}, None
    if text.startswith("sudo: ") or re.search(r"\b(sudo|timeout|env)\b.{0,20}not found", text):
        raise NeedsRoot("docker may not be asked without root")
    start = text.find("{")
    try:
        info, _ = json.JSONDecoder().raw_decode(text[start:]) if start >= 0 else ({}, 0)
    except ValueError:
        info = {}
    if not isinstance(info, dict) or not info.get("ServerVersion"):
        errors = info.get("ServerErrors") if isinstance(info, dict) else None
        return {}, " ".join(errors) if errors else text.strip()[:300]
    return info, None


def _daemon(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    value = json.loads(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("/etc/docker/daemon.json holds no object")
    return value


DOCKER = Fact("docker", SCRIPT, parse, slow=True)
