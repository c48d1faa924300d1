"""Which of the packages that rigup cares about are installed, and whether their manager is fit."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from provisioner.facts.base import Fact, Output

WATCHED = (
    *("docker*", "moby-engine*", "podman-docker", "containerd*", "runc"),
    *(
        "nvidia-*",
        "libnvidia-*",
        "libcuda1",
        "firmware-nvidia-*",
        "cuda-drivers*",
        "kmod-nvidia*",
        "akmod-nvidia*",
        "xorg-x11-drv-nvidia*",
        "linux-*-nvidia-*",
    ),
    *("linux-headers-*", "kernel*-devel*", "kernel*-modules-extra*", "dkms", "mokutil"),
    *("epel-release", "oracle-epel-release*", "python3", "curl", "unattended-upgrades"),
)
"""Patterns of package names, on every distribution."""


@dataclass(frozen=True)
class PackageFacts:
    """Package name -> version, installed ones only; epochs as the package manager writes them.

    Kernel packages of rpm systems, of which several may be installed, also stand there under
    their full name (``kernel-devel-5.14.0-1.el9.x86_64``). ``broken``: half-installed packages.
    ``busy``: a package manager is at work right now; ``lock_holder`` says who, as far as that
    can be seen. ``held``: watched packages that may not be upgraded. ``interrupted``: a
    transaction was cut short and nobody is at it. ``unattended_upgrades``: the host upgrades
    packages by itself.
    """

    manager: str | None
    versions: Mapping[str, str]
    broken: tuple[str, ...] = ()
    busy: bool = False
    lock_holder: str | None = None
    held: tuple[str, ...] = ()
    interrupted: bool = False
    unattended_upgrades: bool = False


# dnf 4 writes down what a transaction will do before it starts (libdnf, transaction/Swdb.cpp);
# state 0 is one that has not come to its end.
UNFINISHED = r"""
import sqlite3
db = sqlite3.connect("file:/var/lib/dnf/history.sqlite?mode=ro", uri=True)
last = db.execute("select id, state from trans order by id desc limit 1").fetchone()
if last and last[1] == 0:
    names = "select distinct name from trans_item join rpm using (item_id) where trans_id = ?"
    for (name,) in db.execute(names, last[:1]):
        print("unfinished|" + name)
"""

SCRIPT = f"""
holder() {{
  printf 'lock|%s|%s\\n' "$1" "$(tr '\\000\\n' '  ' < "/proc/$1/cmdline" 2>/dev/null)"
}}
locked() {{  # the files whose lock a package manager holds while it works
  [ -r /proc/locks ] || return 0
  for inode in $(stat -c %i "$@" 2>/dev/null); do
    while read -r _ _ _ mode pid file _; do
      case $mode:$file in WRITE:*:"$inode") holder "$pid" ;; esac
    done < /proc/locks
  done
}}
running() {{  # the files that hold the process id of a package manager at work
  for file in "$@"; do
    pid=
    [ -s "$file" ] && read -r pid < "$file"
    [ -n "$pid" ] && [ -d "/proc/$pid" ] || continue
    grep -qsE 'dnf|yum|zypp|[Pp]ackage' "/proc/$pid/cmdline" && holder "$pid"
  done
}}
enabled() {{ [ -e "$1" ] && echo 'unattended|'; }}
with_dpkg() {{
  dpkg-query -W -f '${{db:Status-Abbrev}}|${{Package}}|${{Version}}\\n' "$@" 2>/dev/null
  [ $? -le 1 ] || exit 4  # 1 only says that one of them is not there
  locked /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock
  for file in /var/lib/dpkg/updates/*; do [ -e "$file" ] && echo 'unfinished|' && break; done
  grep -qs '^Status:.* \\(half-\\|unpacked\\)' /var/lib/dpkg/status && echo 'unfinished|'
  grep -qs '^[^/]*Unattended-Upgrade "1"' /etc/apt/apt.conf.d/*auto-upgrades && echo 'unattended|'
}}
with_rpm() {{
  format='%{{NAME}}|%|EPOCH?{{%{{EPOCH}}:}}|%{{VERSION}}-%{{RELEASE}}|%{{ARCH}}\\n'
  rpm -qa --qf "$format" "$@" || exit 4
  locked /var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock
  running /var/cache/dnf/*_lock.pid /var/lib/dnf/*_lock.pid /run/zypp.pid
  for file in /etc/dnf/plugins/versionlock.list /etc/dnf/versionlock.toml /etc/zypp/locks; do
    [ -s "$file" ] && sed 's/^/held|/' "$file"
  done
  enabled /etc/systemd/system/timers.target.wants/dnf*-automatic*.timer
  enabled /etc/systemd/system/timers.target.wants/os-update.timer
  [ -s /var/lib/dnf/history.sqlite ] || return 0
  python=/usr/libexec/platform-python
  [ -x $python ] || python=python3
  $python -I -S -c {shlex.quote(UNFINISHED)} 2>/dev/null
}}
ids=
while IFS= read -r line; do
  case $line in ID=*|ID_LIKE=*) ids="$ids ${{line#*=}}" ;; esac
done < /etc/os-release
case $ids in
  *debian*|*ubuntu*) manager=apt ;;
  *suse*|*sles*) manager=zypper ;;
  *rhel*|*fedora*|*centos*|*amzn*) manager=dnf ;;
  *) command -v dpkg-query >/dev/null && manager=apt || exit 3 ;;
esac
echo "manager|$manager"
set -- {shlex.join(WATCHED)}
if [ $manager = apt ]; then with_dpkg "$@"; else with_rpm "$@"; fi
exit 0
"""


def parse(output: Output) -> PackageFacts:
    if output.exit_code == 3:
        return PackageFacts(None, {})
    if output.exit_code != 0:
        raise ValueError("cannot read the package database")
    lines = output.text.splitlines()
    told = _told(lines)
    manager = (told.get("manager") or [""])[0]
    packages = {"apt": _of_dpkg, "dnf": _of_rpm, "zypper": _of_rpm}.get(manager)
    if packages is None:
        raise ValueError("no package manager named")
    versions, broken, held = packages(lines)
    busy = "lock" in told
    unfinished = [] if busy else told.get("unfinished", [])
    return PackageFacts(
        manager=manager,
        versions=versions,
        broken=tuple(dict.fromkeys([*broken, *(name for name in unfinished if name in versions)])),
        busy=busy,
        lock_holder=_holder(told["lock"][0]) if busy else None,
        held=tuple(dict.fromkeys([*held, *_locks(told.get("held", []))])),
        interrupted=bool(unfinished) or (bool(broken) and not busy),
        unattended_upgrades="unattended" in told,
    )


PACKAGES = Fact("packages", SCRIPT, parse)

_TOLD = ("manager", "lock", "unfinished", "held", "unattended")
_Packages = tuple[dict[str, str], list[str], list[str]]
"""Versions by name, broken ones, held ones."""


def _told(lines: Iterable[str]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for line in lines:
        kind, bar, rest = line.partition("|")
        if bar and kind in _TOLD:
            told.setdefault(kind, []).append(rest)
    return told


def _of_dpkg(lines: Iterable[str]) -> _Packages:
    """``ii |name|version``: what is wanted (h: held), what is there, errors."""
    rows = [line.split("|") for line in lines if line.count("|") == 2 and line[3:4] == "|"]
    versions = {name: version for status, name, version in rows if status[1:2] == "i"}
    broken = [name for status, name, _ in rows if status[1:2] not in ("i", "n", "c")]
    return versions, broken, [name for status, name, _ in rows if status[:2] == "hi"]


def _of_rpm(lines: Iterable[str]) -> _Packages:
    """``name|[epoch:]version-release|architecture``. Two versions of one package are what an
    upgrade leaves that was cut short, except for kernels."""
    versions: dict[str, str] = {}
    broken: list[str] = []
    for line in lines:
        if line.startswith("error:"):
            raise ValueError("cannot read the package database")
        if line.count("|") != 2 or line.partition("|")[0] in _TOLD:
            continue
        name, version, architecture = line.split("|")
        if name.startswith("kernel"):
            release = version.rpartition(":")[2]
            versions[f"{name}-{release}.{architecture}"] = version
        elif versions.get(name, version) != version:
            broken.append(name)
        versions[name] = version
    return versions, broken, []


def _holder(text: str) -> str:
    """``pid 123 apt-get`` from ``123|/usr/bin/apt-get -q install``; an interpreter is skipped."""
    pid, _, line = text.partition("|")
    names = [PurePosixPath(word).name for word in line.split() if not word.startswith("-")]
    shown = names[1:] if names[1:] and names[0].startswith(("python", "platform-python")) else names
    return " ".join(["pid", pid, *shown[:1]])


def _locks(lines: Iterable[str]) -> list[str]:
    """Names out of the lock files of dnf 4 (``name-epoch:version-release.*``), dnf 5
    (``name = "nvidia-open"``) and zypper (``solvable_name: nvidia-open``)."""
    names = []
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.strip() == "name":
            names.append(value.strip().strip("\"'"))
        elif line.startswith("solvable_name:"):
            names.append(line.partition(":")[2].strip())
        elif not equals and line.count("-") >= 2 and ":" in line and line[:1].isalnum():
            names.append(line.rsplit("-", 2)[0])
    return names
