"""Which of the packages that rigup cares about are installed, and at which version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output

WATCHED = (
    "docker.io",
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "nvidia-driver",
    "nvidia-open",
    "cuda-drivers",
    "nvidia-smi",
    "nvidia-kernel-open-dkms",
    "nvidia-kernel-dkms",
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
    "python3",
)


@dataclass(frozen=True)
class PackageFacts:
    """Package name -> version, installed ones only. ``broken``: half-installed packages.
    ``busy``: a package manager is at work right now."""

    manager: str | None
    versions: Mapping[str, str]
    broken: tuple[str, ...] = ()
    busy: bool = False


SCRIPT = f"""
command -v dpkg-query >/dev/null || exit 3
dpkg-query -W -f '${{db:Status-Abbrev}}|${{Package}}|${{Version}}\\n' {" ".join(WATCHED)} \
  'nvidia-driver-pinning-*' 2>/dev/null
[ $? -le 1 ] || exit 4  # 1 only says that one of them is not there
lock=$(stat -c %i /var/lib/dpkg/lock-frontend 2>/dev/null)
[ -n "$lock" ] && grep -q ":$lock 0 EOF" /proc/locks 2>/dev/null && echo 'busy|'
exit 0
"""


def parse(output: Output) -> PackageFacts:
    if output.exit_code == 3:
        return PackageFacts(None, {})
    if output.exit_code != 0:
        raise ValueError("dpkg-query cannot read the package database")
    rows = [line.split("|") for line in output.text.splitlines() if line.count("|") == 2]
    return PackageFacts(
        manager="apt",
        versions={name: version for status, name, version in rows if status[1:2] == "i"},
        broken=tuple(name for status, name, _ in rows if status[1:2] not in ("i", "n", "c")),
        busy="busy|" in output.text.splitlines(),
    )


PACKAGES = Fact("packages", SCRIPT, parse)
