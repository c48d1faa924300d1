"""The Docker engine: is it there, does it answer, how is it configured."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from provisioner.facts.base import Fact, NeedsRoot, Output

UNREAD = "/run/rigup/docker-configuration-unread"
"""Exists while daemon.json holds something that rigup wrote and the engine has not read."""


@dataclass(frozen=True)
class DockerFacts:
    """``installed`` is not podman's stand-in, which is ``podman``. ``error``: why an installed
    engine does not answer.

    ``daemon_json``: None where absent or malformed, which ``daemon_error`` then says, with the
    place; ``daemon_digest``: SHA-256 of the file. ``flags``: names of dockerd's command line
    options; ``config_file``: the one that it was told to read. ``unread``: the engine has not read
    all of its configuration. ``root``: where its data lies, of which there are ``images`` and
    ``containers``; ``running``: names of those that run. ``containerd_store``: images lie in
    containerd's own root; ``containerd_root``: what its configuration sets that to.
    ``nofile_limit``: the most open files that the engine can give, None where it may raise limits.
    ``http_proxy``: the running engine's.
    """

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
    http_proxy: str | None = None
    podman: bool = False
    rootless: bool = False
    daemon_error: str | None = None
    daemon_digest: str | None = None
    flags: tuple[str, ...] = ()
    config_file: str | None = None
    unread: bool = False
    live_restore: bool = False
    swarm: bool = False
    root: str | None = None
    images: int = 0
    containers: int = 0
    running: tuple[str, ...] = ()
    containerd_store: bool = False
    containerd_root: str | None = None
    nofile_limit: int | None = None


SCRIPT = (
    r"""
if docker=$(command -v docker); then
  case $(readlink -f "$docker"; head -c 2048 "$docker" | tr -d '\000') in
    *[Pp]odman*) echo podman=1 ;;
    *) echo installed=1 ;;
  esac
fi
[ -d /snap/docker ] && echo snap=1
show() {  # a file's lines and digest; says so where it may not be read
  [ -e "$2" ] || return 0
  read="cat"
  [ -r "$2" ] || read="as_root cat"
  $read "$2" >/dev/null 2>&1 || { echo "$1_unreadable=1"; return 0; }
  $read "$2" | sed "s/^/$1|/"
  echo
  echo "$1_digest=$($read "$2" | sha256sum | cut -c -64)"
}
show daemon /etc/docker/daemon.json
toml=/etc/containerd/config.toml
if [ -e $toml ]; then  # its tables may hold a registry's password
  top='/^[[:space:]]*\[/,$d; s/^[[:space:]]*root[[:space:]]*=[[:space:]]*/containerd_root=/p'
  sed -n "$top" $toml 2>/dev/null || as_root sed -n "$top" $toml
fi
[ -e """
    + UNREAD
    + r""" ] && echo unread=1
if [ -r /run/docker.pid ] && pid=$(cat /run/docker.pid) && [ -r "/proc/$pid/cmdline" ]; then
  tr '\0' '\n' < "/proc/$pid/cmdline" | sed -n 's/^--\([a-z-]*\).*/flag=\1/p'
  tr '\0' '\n' < "/proc/$pid/cmdline" |
    sed -n 's/^--config-file=/configured=/p; /^--config-file$/{ n; s/^/configured=/p; }'
  sed -n 's/^Max open files *[^ ]* *\([0-9]*\) .*/limit=\1/p' "/proc/$pid/limits"
  sed -n 's/^CapEff:[[:space:]]*/capabilities=/p' "/proc/$pid/status"
fi
if [ -n "$docker" ]; then
  ask() { "$@" 2>&1 | tr '\n' ' '; }
  ask_socket() {  # the same answer for a tenth of the CPU time: the program also asks its plugins
    [ -z "$DOCKER_HOST$DOCKER_CONTEXT" ] && [ ! -e "$HOME/.docker/config.json" ] &&
      [ -w /run/docker.sock ] && command -v curl >/dev/null &&
      limited curl -qs --noproxy '*' --unix-socket /run/docker.sock http://docker/info
  }
  root=
  info=$(ask_socket)
  case $info in
    *'"ServerVersion":'*) ;;
    *) info=$(ask timeout 20 docker info --format '{{json .}}') ;;
  esac
  case $info in *"permission denied"*)
    root=as_root
    info=$(ask as_root timeout 20 docker info --format '{{json .}}')
  esac
  printf 'info=%s\n' "$info"
  case $info in
    *'"ContainersRunning":0,'*) ;;
    *'"ContainersRunning":'*)
      $root timeout 20 docker ps --format '{{.Names}}' 2>/dev/null | sed 's/^/running=/' ;;
  esac
fi
# After the question, which starts an engine that waits for its socket's first caller.
state=$(systemctl show -p ActiveState -p UnitFileState docker.service 2>/dev/null)
case $state in *ActiveState=active*|*ActiveState=reloading*) echo active=1 ;; esac
case $state in  # what is-enabled(1) takes for enabled
  *FileState=enabled*|*FileState=alias|*FileState=static|*FileState=indirect|*FileState=generated)
    echo enabled=1 ;;
esac
exit 0
"""
)

CAP_SYS_RESOURCE = 24
"""capabilities(7): its bit; whoever has it may raise limits."""


def parse(output: Output) -> DockerFacts:
    lines = output.text.split("\n")
    told = [line.split("=", 1) for line in lines if "=" in line and "|" not in line.split("=")[0]]
    values = dict(told)
    if "daemon_unreadable" in values:
        raise ValueError("/etc/docker/daemon.json may not be read")
    info, error = _info(values.get("info"))
    daemon, daemon_error = _daemon(_file(lines, "daemon", values))
    return DockerFacts(
        installed="installed" in values,
        active="active" in values,
        enabled="enabled" in values,
        server_version=info.get("ServerVersion") or None,
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        cgroup_driver=info.get("CgroupDriver"),
        daemon_json=daemon,
        error=error,
        snap="snap" in values,
        containers_running=int(info.get("ContainersRunning") or 0),
        http_proxy=info.get("HttpProxy") or None,
        podman="podman" in values,
        rootless="name=rootless" in (info.get("SecurityOptions") or ()),
        daemon_error=daemon_error,
        daemon_digest=values.get("daemon_digest"),
        flags=tuple(value for key, value in told if key == "flag"),
        config_file=values.get("configured"),
        unread="unread" in values,
        live_restore=info.get("LiveRestoreEnabled") is True,
        swarm=(info.get("Swarm") or {}).get("LocalNodeState") == "active",
        root=info.get("DockerRootDir") or None,
        images=int(info.get("Images") or 0),
        containers=int(info.get("Containers") or 0),
        running=tuple(value for key, value in told if key == "running"),
        containerd_store="io.containerd.snapshotter" in str(info.get("DriverStatus")),
        containerd_root=_toml_string(values.get("containerd_root")),
        nofile_limit=_nofile_limit(values),
    )


def _file(lines: list[str], name: str, values: dict[str, str]) -> str | None:
    if f"{name}_digest" not in values:
        return None
    start = f"{name}|"
    return "\n".join(line[len(start) :] for line in lines if line.startswith(start)) + "\n"


def _toml_string(value: str | None) -> str | None:
    return None if value is None else re.sub(r"\s+#.*$", "", value).strip().strip("\"'")


def _nofile_limit(values: dict[str, str]) -> int | None:
    if "limit" not in values or int(values["capabilities"], 16) >> CAP_SYS_RESOURCE & 1:
        return None
    return int(values["limit"])


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


def _daemon(text: str | None) -> tuple[dict[str, Any] | None, str | None]:
    """The content, or what is wrong with it and where."""
    if text is None:
        return None, None
    if "\ufffd" in text:
        return None, "it is not all UTF-8"
    try:
        value = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        return None, f"line {error.lineno}, column {error.colno}: {error.msg}"
    if not isinstance(value, dict):
        return None, "line 1: it holds no object"
    return value, None


DOCKER = Fact("docker", SCRIPT, parse, slow=True)
