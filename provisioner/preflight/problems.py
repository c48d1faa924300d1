"""Problems that block, each with its remedy; all of them are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from provisioner import data
from provisioner.facts import LOGIN, PACKAGES, RESOURCES, FactUnreadable
from provisioner.preflight.situation import Problem, Situation
from provisioner.preflight.space import space_problems


def find_problems(situation: Situation) -> list[Problem]:
    return [problem for find in FINDERS for problem in find(situation)]


def _sudo(situation: Situation) -> Iterator[Problem]:
    login, ahead = situation.facts[LOGIN], situation.ahead
    if login.is_root or login.sudo_without_password or not (ahead.needs_root or ahead.blocked):
        return
    resources = situation.facts[RESOURCES]
    if not resources.sudo_installed:
        yield Problem(
            f"{login.user} is not root, and there is no sudo on the host",
            f"set user: root in the inventory, or have root install sudo and allow it to "
            f"{login.user}",
        )
        return
    others = [name for name in resources.admins if name not in (login.user, "root")]
    may = f" (members of the host's sudo group: {', '.join(others[:5])})" if others else ""
    yield Problem(
        f"{login.user} may not become root without a password",
        f"give the password: invoke provision --host {situation.host.name} --ask-sudo-password, "
        f"or log in as one who may use sudo{may}",
    )


def _space(situation: Situation) -> Iterator[Problem]:
    if situation.ahead.installing:
        yield from space_problems(situation)


def _clock(situation: Situation) -> Iterator[Problem]:
    ahead = situation.facts[RESOURCES].clock_ahead_s if situation.ahead.installing else 0
    if abs(ahead) <= data.load("preflight")["clock_tolerance_s"]:
        return
    how = f"{duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"
    yield Problem(
        f"the host's clock is {how} this machine's: certificates and signed package lists may not "
        "be believed",
        "compare `date` on both, then on the one that is wrong: timedatectl set-ntp true, or "
        "chronyc makestep",
    )


def _package_manager(situation: Situation) -> Iterator[Problem]:
    """An unreadable database blocks; one that is locked is waited for, a broken one repaired."""
    ahead = situation.ahead
    if not (ahead.installing or ahead.blocked):
        return
    try:
        situation.facts[PACKAGES]
    except FactUnreadable as error:
        yield Problem(
            f"the package manager cannot be used: {error.message}",
            error.remedy or "look at it on the host: dpkg --audit, or rpm -qa",
        )


FINDERS: tuple[Callable[[Situation], Iterator[Problem]], ...] = (
    _sudo,
    _space,
    _clock,
    _package_manager,
)


def duration(seconds: int) -> str:
    """``75 s``, ``12 min``, ``3 h``, ``40 days``: roughly, for people."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
