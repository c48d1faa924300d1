"""The cgroup that holds all processes of one job, whatever they do to their sessions, parents and
environments: a child of the scope that the job's supervisor runs in (:mod:`remote_agent.scope`).

On cgroup v2, and in systemd's own hierarchy of cgroup v1; see cgroups(7). No controller is used.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from remote_agent.protocol.job import JOB_ID

LEAF = "job"
SCOPE = re.compile(r"rigup-job-(.+)-[0-9a-f]{8}\.scope\Z")
SYSTEMD_V1 = "name=systemd"
CGROUP2 = "cgroup2"
READS, READ_AGAIN_S = 20, 0.001
HALT_LIMIT_S = 2.0
MAX_CGROUPS = 10_000
"""A job may make cgroups of its own below its own; more of them are not looked at."""


@dataclass(frozen=True)
class Cgroup:
    """A job's cgroup by its directory. One that is gone has no processes."""

    path: str

    def enter(self) -> None:
        """Move the calling process, and so what it will start. Raises OSError."""
        with open(os.path.join(self.path, "cgroup.procs"), "wb", buffering=0) as file:
            file.write(b"0")

    def pids(self) -> List[int]:
        """Of this cgroup and of those below it; zombies may be among them. The kernel's list may
        miss one that forks and ends meanwhile: "none" is believed only when it is said again."""
        for _ in range(READS):
            found = self._listed()
            if found or not self._is_populated():
                return found
            time.sleep(READ_AGAIN_S)
        return []

    def _listed(self) -> List[int]:
        found: List[int] = []
        for number, (directory, _, _) in enumerate(os.walk(self.path)):
            if number >= MAX_CGROUPS:
                break
            found.extend(_pids(directory))
        return found

    def _is_populated(self) -> bool:
        """As cgroup v2 tells it for certain; cgroup v1 does not, and then it may be."""
        try:
            with open(os.path.join(self.path, "cgroup.events"), "rb") as file:
                return b"populated 0" not in file.read()
        except OSError:
            return os.path.isdir(self.path)

    def kill(self) -> None:
        """SIGKILL to all processes, also to those that fork meanwhile."""
        if not self._kill_at_once():
            for pid in self._halted():
                _send(pid, signal.SIGKILL)

    def _kill_at_once(self) -> bool:
        """False before Linux 5.14 and on cgroup v1; see cgroups(7), cgroup.kill."""
        try:
            fd = os.open(os.path.join(self.path, "cgroup.kill"), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.write(fd, b"1") == 1
        except OSError:
            return False  # removed just now
        finally:
            os.close(fd)

    def _halted(self) -> List[int]:
        """All processes, stopped so that none of them forks: looked for until no new one is
        found."""
        halted: Set[int] = set()
        deadline = time.monotonic() + HALT_LIMIT_S
        while time.monotonic() < deadline:
            new = set(self.pids()) - halted
            if not new:
                break
            for pid in new:
                _send(pid, signal.SIGSTOP)
            halted |= new
        return sorted(halted.intersection(self.pids()))


def scope_name(job_id: str) -> str:
    """A systemd unit's name that no other scope bears; see :data:`SCOPE`."""
    return "rigup-job-%s-%s.scope" % (job_id, os.urandom(4).hex())


def make_cgroup(job_id: str) -> Optional[Cgroup]:
    """Below the scope of ``job_id`` that this process runs in; None when it runs in no such scope
    or nothing can be made there."""
    for directory in own_directories():
        if not _is_scope_of(directory, job_id):
            continue
        cgroup = Cgroup(os.path.join(directory, LEAF))
        try:
            os.mkdir(cgroup.path, 0o755)
        except OSError:
            continue
        if _can_be_entered(cgroup):
            return cgroup
    return None


def recorded_cgroup(details: Dict[str, Any], job_id: str) -> Optional[Cgroup]:
    """The cgroup that a job's state file names; looked for where a damaged file names none that
    could be it."""
    named = details.get("cgroup", "")
    return None if named is None else _verified(named, job_id) or _found(job_id)


def _found(job_id: str) -> Optional[Cgroup]:
    for scope in unit_directories(lambda name: _is_scope_of(name, job_id)):
        cgroup = _verified(os.path.join(scope, LEAF), job_id)
        if cgroup is not None:
            return cgroup
    return None


def _verified(path: Any, job_id: str) -> Optional[Cgroup]:
    """None for anything that is not certainly the cgroup of this very job and of this user: what
    a damaged file names must not be killed."""
    if not isinstance(path, str) or os.path.normpath(path) != path or "\0" in path:
        return None
    scope, leaf = os.path.split(path)
    if leaf != LEAF or not _is_scope_of(scope, job_id):
        return None
    if not any(path.startswith(mount + "/") for _, _, mount in _mounts()):
        return None
    return Cgroup(path) if _is_ours(path) else None


def _can_be_entered(cgroup: Cgroup) -> bool:
    """Tried by a child: where a process may not move, a program would start outside."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            cgroup.enter()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _is_scope_of(directory: str, job_id: str) -> bool:
    match = SCOPE.match(os.path.basename(directory))
    return bool(match and JOB_ID.match(job_id) and match.group(1) == job_id)


def _is_ours(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    same = os.path.realpath(path) == path
    return same and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone meanwhile, or another user's


def _pids(directory: str) -> List[int]:
    """0 stands for a process that this one cannot see (another pid namespace)."""
    try:
        with open(os.path.join(directory, "cgroup.procs"), "rb") as file:
            return [int(word) for word in file.read().split() if word != b"0"]
    except (OSError, ValueError):
        return []


def unit_directories(wanted: Callable[[str], bool]) -> Iterator[str]:
    """The cgroups of this user's manager (root: of the system's) whose names are ``wanted``."""
    for directory in own_directories():
        base = _manager_cgroup(directory, os.geteuid())
        if not os.path.isdir(base):
            continue
        for number, (parent, children, _) in enumerate(os.walk(base)):
            if number >= MAX_CGROUPS:
                break
            yield from (os.path.join(parent, name) for name in children if wanted(name))
        return


def _manager_cgroup(directory: str, uid: int) -> str:
    """From any cgroup that a login or a unit of the manager is in; "" from elsewhere."""
    if uid == 0:
        for place in ("/system.slice", "/user.slice"):
            head, found, _ = (directory + "/").partition(place + "/")
            if found:
                return head + "/system.slice"
        return ""
    slice_ = "/user-%d.slice/" % uid
    head, found, _ = (directory + "/").partition(slice_)
    return "%s%suser@%d.service" % (head, slice_, uid) if found else ""


def own_directories() -> Iterator[str]:
    """Where this process is, on cgroup v2 first."""
    mounts = _mounts()
    entries = [line.split(":", 2) for line in _lines("/proc/self/cgroup")]
    places = {controllers: path for _, controllers, path in entries}
    for kind, controllers in ((CGROUP2, ""), (SYSTEMD_V1, SYSTEMD_V1)):
        for found, root, mount in mounts:
            place = places.get(controllers)
            if found == kind and place is not None and _is_below(place, root):
                yield os.path.normpath(mount + "/" + place[len(root.rstrip("/")) :])


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _mounts() -> List[Tuple[str, str, str]]:
    """Kind (``cgroup2`` or ``name=systemd``), root and mount point; see proc(5), mountinfo."""
    found = []
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        if not kind or len(words) < 5:
            continue
        root, mount = words[3], words[4]
        if kind[0] == CGROUP2:
            found.append((CGROUP2, root, mount))
        elif kind[0] == "cgroup" and SYSTEMD_V1 in kind[-1].split(","):
            found.append((SYSTEMD_V1, root, mount))
    return found


def _lines(path: str) -> List[str]:
    """None where the kernel has no cgroups, or shows none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
