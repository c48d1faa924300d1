"""What a job may have left behind, for its verdict: nothing is passed over in silence."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import List, Tuple

from remote_agent.cgroup import Cgroup, unit_directories
from remote_agent.processes import name_of, stat
from remote_agent.protocol.job import Verdict
from remote_agent.tree import Tree

MAX_NAMED = 8
NO_CGROUP = (
    "its supervisor was killed and it had no cgroup of its own: a process that cleared its "
    "environment and left its session and its log may still run"
)
TRANSIENT = "systemd/transient"
"""Below a manager's runtime directory: the units that exist only in its memory, such as those of
systemd-run; see systemd.unit(5)."""
OTHERS = ("app-", "dbus-", "docker-", "rigup-", "session-")
"""Names of transient units that desktops, D-Bus, engines and rigup itself make."""

Service = Tuple[str, List[int]]


def naming_leftovers(verdict: Verdict, tree: Tree, since: int, *, unsure: bool) -> Verdict:
    """The verdict with what could not be ended, and with what ``systemd-run`` started after
    ``since`` (clock ticks after boot): that belongs to systemd, and it may be another's.
    ``unsure``: a process may have got lost."""
    left = listed(tree.described())
    told = [verdict.evidence, "could not be ended: " + left if left else ""]
    told += [_told(service) for service in services_since(since)[:MAX_NAMED]]
    told.append(NO_CGROUP if unsure else "")
    return replace(verdict, evidence="; ".join(filter(None, told)))


def services_since(since: int) -> List[Service]:
    """Transient units of this user's manager with processes that started later."""
    try:
        names = set(filter(_is_of_systemd_run, os.listdir(_transient_units())))
    except OSError:
        return []
    places = unit_directories(lambda name: name in names) if names else ()
    found = [(os.path.basename(path), _younger(path, since)) for path in places]
    return [(name, pids) for name, pids in sorted(found) if pids]


def _told(service: Service) -> str:
    name, pids = service
    manager = "systemctl" if os.geteuid() == 0 else "systemctl --user"
    running = listed(["%s (pid %d)" % (name_of(pid), pid) for pid in pids])
    said = "systemd-run started %s while the job ran, and it still runs: %s; `%s stop %s` ends it"
    return said % (name, running, manager, name)


def listed(items: List[str]) -> str:
    more = len(items) - MAX_NAMED
    return ", ".join(items[:MAX_NAMED]) + (" and %d more" % more if more > 0 else "")


def _transient_units() -> str:
    uid = os.geteuid()
    return os.path.join("/run" if uid == 0 else "/run/user/%d" % uid, TRANSIENT)


def _is_of_systemd_run(name: str) -> bool:
    if not name.endswith((".service", ".scope")):
        return False
    return name.startswith("run-") or (os.geteuid() != 0 and not name.startswith(OTHERS))


def _younger(path: str, since: int) -> List[int]:
    stats = filter(None, map(stat, Cgroup(path).pids()))
    return sorted(found.pid for found in stats if found.start_ticks >= since)
