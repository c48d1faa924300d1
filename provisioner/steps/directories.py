"""The workspace and the data directories, owned by the login user, each on its own disk."""

from __future__ import annotations

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.facts import DIRECTORIES, LOGIN, Facts
from provisioner.facts.directories import Directory
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, listed
from provisioner.traces import Trace

OWN = 'chown -- "$2:$(id -gn -- "$2")" "$1"'
MAKE_NEW = f'mkdir -p -- "$(dirname -- "$1")" && mkdir -m 0755 -- "$1" && {OWN}'
"""Fails where something is there already, which then was not to be seen."""
OWN_EMPTY = f'found=$(ls -A -I lost+found -- "$1") && [ -z "$found" ] && {OWN}'
SYSTEM_ROOTS = ("", "bin", "boot", "dev", "etc", "lib", "proc", "root", "run", "sbin", "sys", "usr")
"""Nobody is told to give away what lies there (hier(7)); /var, /opt and /srv may hold data."""


class Directories:
    """What is in a directory is never touched: only a new or an empty one changes its owner."""

    name = "directories"

    def check(self, facts: Facts, host: Host) -> Outcome:
        wanted = wanted_directories(host)
        if not wanted:
            return Satisfied("none asked for")
        user, found = facts[LOGIN].user, facts[DIRECTORIES].found
        there = {path: found.get(path, Directory()) for path in wanted}
        refusals = [refusal for path in there if (refusal := _refusal(path, there[path], user))]
        if refusals:
            return Blocked(
                listed([one.reason for one in refusals]),
                "; ".join(one.what_to_do for one in refusals),
            )
        changes = [change for path in there if (change := _change(path, there[path], user))]
        if changes:
            return Change(
                listed([reason for reason, _ in changes]), tuple(action for _, action in changes)
            )
        return Satisfied(listed([_described(path, there[path], user) for path in wanted]))


def wanted_directories(host: Host) -> tuple[str, ...]:
    """In the inventory's order, each once, without a slash at the end."""
    paths = (*([host.workspace] if host.workspace else []), *host.data_directories)
    return tuple(dict.fromkeys(path.rstrip("/") or "/" for path in paths))


def _refusal(path: str, found: Directory, user: str) -> Blocked | None:
    if found.unmounted is not None:
        return Blocked(
            f"{path}: fstab has {found.unmounted}, but nothing is mounted there, so that data "
            "would fill the disk below",
            f"sudo mount {found.unmounted} (or take it out of /etc/fstab), then provision again",
        )
    if found.kind is None or _is_fit(found, user):
        return None
    if found.kind != "directory":
        return Blocked(f"{path} is a {found.kind}", f"move {path} away, or name another directory")
    if found.empty:
        return None
    return Blocked(
        f"{path} belongs to {found.owner}, is not empty, and {user} may not write there",
        _remedy(path, user),
    )


def _remedy(path: str, user: str) -> str:
    if path.split("/")[1] in SYSTEM_ROOTS:
        return f"name another directory: {path} is the system's"
    return f"sudo chown {user}: {path} (what is in it keeps its owner), or name another directory"


def _is_fit(found: Directory, user: str) -> bool:
    return found.kind == "directory" and (found.owner == user or found.writable)


def _change(path: str, found: Directory, user: str) -> tuple[str, Action] | None:
    if _is_fit(found, user):
        return None
    if found.kind is None:
        make = Command.sh(MAKE_NEW, path, user, sudo=True)
        trace = Trace("directory", path)
        return f"{path} is not there", Run(make, f"make {path}", traces=(trace,))
    own = Command.sh(OWN_EMPTY, path, user, sudo=True)
    done = Trace("command", f"changed the owner of {path} from {found.owner} to {user}")
    return f"{path} is empty and not {user}'s", Run(own, f"chown {user} {path}", traces=(done,))


def _described(path: str, found: Directory, user: str) -> str:
    return path if found.owner == user else f"{path} ({found.owner}'s, writable for {user})"
