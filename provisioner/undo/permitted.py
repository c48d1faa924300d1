"""Which records may be acted on. The journal is root's file, and still not believed blindly: a
line that rigup would never have written is refused, whatever wrote it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from provisioner.journal import Entry

ROOTS = (
    "/etc/apt",
    "/etc/yum.repos.d",
    "/etc/zypp",
    "/etc/dnf",
    "/etc/pki",
    "/etc/modprobe.d",
    "/etc/modules-load.d",
    "/etc/systemd",
    "/etc/tmpfiles.d",
    "/etc/profile.d",
    "/etc/docker",
    "/etc/cdi",
    "/etc/pip.conf",
    "/usr/local/share/ca-certificates",
    "/usr/local/share/rigup",
)
"""Where provisioning writes files, besides the login user's home."""
HOME_FILES = re.compile(
    r"\.config/systemd/user/(default\.target\.wants/)?rigup-agent[\w-]*\.service"
)
JSON_FILES = ("/etc/docker/daemon.json",)
NAMES = {
    "package": re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:~_-]*"),
    "hold": re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:~_-]*"),
    "unit": re.compile(r"[A-Za-z0-9][\w@.:-]*\.(service|socket|path|timer)"),
    "linger": re.compile(r"[A-Za-z_][\w.-]*\$?"),
    "group-member": re.compile(r"[A-Za-z_][\w.-]*\$?"),
}
PROTECTED = re.compile(
    r"linux-image-.*|kernel(-core|-modules|-default)?(-\d.*)?|openssh(-.*)?|systemd(-.*)?"
    r"|libc6|glibc|bash|dash|sudo|dpkg|rpm|apt|dnf|zypper|python3|coreutils|login|passwd|base-files"
)
"""Packages without which a host is lost; rigup may have installed python3, and leaves it."""


def refusal(entry: Entry, home: str) -> str | None:
    """Why this record is not acted on; None where it is. ``home``: the login user's."""
    trace = entry.trace
    pattern = NAMES.get(trace.kind)
    if pattern is not None:
        if not pattern.fullmatch(trace.name):
            return f"{trace.name!r} is no name of a {trace.kind}"
        if trace.kind == "package" and PROTECTED.fullmatch(trace.name):
            return f"{trace.name} is part of the system"
        if trace.kind == "group-member" and trace.detail != "docker":
            return f"rigup puts nobody into the group {trace.detail!r}"
        return None
    if trace.kind == "command":
        return None
    return _path_refusal(entry, home)


def _path_refusal(entry: Entry, home: str) -> str | None:
    trace = entry.trace
    path = PurePosixPath(trace.name)
    if not path.is_absolute() or ".." in path.parts or str(path) != trace.name:
        return f"{trace.name!r} is no plain absolute path"
    if trace.kind == "directory":
        return None if path.name == "agent" else f"{path} is no directory of agents"
    if trace.kind == "json-keys":
        return None if str(path) in JSON_FILES else f"rigup merges nothing into {path}"
    if _is_below(path, home):
        found = HOME_FILES.fullmatch(str(path.relative_to(home)))
        return None if found else f"rigup writes no {path}"
    if not any(_is_below(path, root) for root in ROOTS):
        return f"rigup writes no files like {path}"
    if "rigup" not in trace.name and not trace.detail.startswith("sha256:"):
        return f"nothing tells that {path} is rigup's"
    return None


def _is_below(path: PurePosixPath, root: str) -> bool:
    return bool(root) and path.is_relative_to(root)
