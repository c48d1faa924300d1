"""Processes as /proc tells them: who is alive, who belongs to a job."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Set

from remote_agent.protocol.values import Value

PROC = "/proc"
JOB_MARK = "RIGUP_JOB_ID"
"""Environment variable that every process of a job inherits."""
SUPERVISING = {b"supervise", b"recover"}
"""Words of the command lines of supervisors."""


@dataclass(frozen=True)
class Identity(Value):
    """A process, safe against reuse of its number: ``start_ticks`` is field 22 of
    /proc/PID/stat, the start time in clock ticks since boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class Stat:
    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def machine_id() -> str:
    """Tells machines apart that share a home directory; see machine-id(5)."""
    try:
        with open("/etc/machine-id") as file:
            found = file.read().strip()
    except OSError:
        found = ""
    return found or os.uname().nodename


def stat(pid: int) -> Optional[Stat]:
    """None when there is no such process, or where /proc hides those of other users (hidepid).
    See proc(5); the name may hold spaces and brackets."""
    try:
        with open("%s/%d/stat" % (PROC, pid), "rb") as file:
            after_name = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    state, numbers = after_name[0].decode(), after_name[1:]
    return Stat(pid, state, int(numbers[0]), int(numbers[1]), int(numbers[2]), int(numbers[18]))


def identify(pid: int) -> Optional[Identity]:
    found = stat(pid)
    return Identity(pid, found.start_ticks) if found else None


def identity_of(child: int) -> Identity:
    """The identity of a child of this process; children keep their entry until they are reaped."""
    return identify(child) or Identity(child, 0)


def is_alive(identity: Identity) -> bool:
    """True while this very process runs; a zombie counts as dead."""
    found = stat(identity.pid)
    return bool(found and found.start_ticks == identity.start_ticks and found.state not in "ZX")


def all_stats() -> Iterator[Stat]:
    for name in os.listdir(PROC):
        if name.isdigit():
            found = stat(int(name))
            if found is not None:
                yield found


def job_of(pid: int) -> Optional[str]:
    """The job a process is marked with; None also where its environment may not be read."""
    try:
        with open("%s/%d/environ" % (PROC, pid), "rb") as file:
            environment = file.read()
    except OSError:
        return None
    prefix = JOB_MARK.encode() + b"="
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode("utf-8", "replace")
    return None


def writes_to(pid: int, log: str) -> bool:
    """Is one of its standard outputs the file ``log``? False also where that may not be read."""
    for fd in (1, 2):
        try:
            if os.readlink("%s/%d/fd/%d" % (PROC, pid, fd)) == log and _is_writer(pid, fd):
                return True
        except OSError:
            continue
    return False


def _is_writer(pid: int, fd: int) -> bool:
    """See proc(5): ``flags`` are octal."""
    with open("%s/%d/fdinfo/%d" % (PROC, pid, fd)) as file:
        for line in file:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def name_of(pid: int) -> str:
    """As in ps(1), at most 15 characters; "?" for a process that is gone."""
    try:
        with open("%s/%d/comm" % (PROC, pid), "rb") as file:
            name = file.read().decode("utf-8", "replace").strip()
    except OSError:
        return "?"
    return "".join(c if c.isprintable() else "?" for c in name)


def find_supervisor(job_id: str) -> Optional[Identity]:
    """The process that supervises a job, told by its command line, for where the job's records do
    not tell it; this process itself does not count."""
    for entry in all_stats():
        if entry.pid != os.getpid() and entry.state not in "ZX":
            words = _command_line(entry.pid)
            waits = b"--standby" in words  # it has claimed no job yet, if it ever will
            if (
                SUPERVISING & set(words)
                and not waits
                and [b"--job", job_id.encode()] in _pairs(words)
            ):
                return Identity(entry.pid, entry.start_ticks)
    return None


def find_dispatchers(state_dir: str, but_of: str) -> List[Identity]:
    """Dispatchers of ``state_dir``, told by their command lines, except those that were started
    from the file ``but_of``."""
    found = []
    for entry in all_stats():
        words = _command_line(entry.pid)
        served = [path for option, path in _pairs(words) if option == b"--state-dir"]
        serves = os.path.normpath(os.fsencode(state_dir)) in map(os.path.normpath, served)
        if b"dispatch" in words and serves and os.fsencode(but_of) not in words:
            found.append(Identity(entry.pid, entry.start_ticks))
    return found


def _command_line(pid: int) -> List[bytes]:
    try:
        with open("%s/%d/cmdline" % (PROC, pid), "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _pairs(words: List[bytes]) -> List[List[bytes]]:
    return [words[index : index + 2] for index in range(len(words) - 1)]


def members(job_id: str, roots: Set[Identity], spared: Set[int], log: str = "") -> List[int]:
    """Every living process of a job: descendants of ``roots``, processes in their sessions or
    groups, processes marked with the job id, and those that write to the file ``log``. ``spared``
    are never among them.

    A root that has ended still counts, because its number names its session and group as long
    as one process is in them; once another process bears the number, it does not.
    """
    stats = {entry.pid: entry for entry in all_stats()}
    numbers = {root.pid for root in roots if not _reused(root, stats)}
    return _members(job_id, numbers, spared, stats, log)


def _reused(root: Identity, stats: Dict[int, Stat]) -> bool:
    entry = stats.get(root.pid)
    return entry is not None and entry.start_ticks != root.start_ticks


def _members(
    job_id: str, roots: Set[int], spared: Set[int], stats: Dict[int, Stat], log: str
) -> List[int]:
    found = []
    for pid, entry in stats.items():
        if pid in spared or entry.state in "ZX":
            continue
        if (
            entry.session in roots
            or entry.group in roots
            or _descends(pid, roots, stats)
            or job_of(pid) == job_id
            or (log and writes_to(pid, log))
        ):
            found.append(pid)
    return found


def _descends(pid: int, roots: Set[int], stats: Dict[int, Stat]) -> bool:
    seen = set()
    while pid in stats and pid not in seen:
        if pid in roots:
            return True
        seen.add(pid)
        pid = stats[pid].parent
    return False
