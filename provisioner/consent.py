"""Confirmation by a person, before hosts go down or things are removed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from provisioner.errors import BlockedError
from provisioner.reboot import RebootPolicy
from provisioner.terminal import says_yes
from provisioner.text import printable

MOST_SHOWN = 20_000
_ONE_QUESTION = threading.Lock()


def reboot_policy(allowed: bool, yes: bool, timeout_s: float) -> RebootPolicy:
    """Reboots as asked for on the command line: with ``yes`` at once, else each host's after a
    question at the terminal. Raises BlockedError where there is nobody to ask."""
    if allowed and not yes and not sys.stdin.isatty():
        raise BlockedError(
            "--reboot: confirmation required", remedy="add --yes, or run it at a terminal"
        )
    return RebootPolicy(allowed, timeout_s, _at_once if yes else _asked)


def removal_agreement(yes: bool) -> Callable[[str, str], bool] | None:
    """Asked with a host and what will be removed there; None where ``yes`` says it all. Raises
    BlockedError where there is nobody to ask."""
    if not yes and not sys.stdin.isatty():
        raise BlockedError(
            "removing: confirmation required", remedy="look at it with --check, then add --yes"
        )
    return None if yes else _asked_to_remove


def _at_once(host: str, what: str) -> bool:
    return True


def _asked_to_remove(host: str, what: str) -> bool:
    return _answer(f"{host}: this will be done\n{printable(what, limit=MOST_SHOWN)}\ngo on? [y/N] ")


def _asked(host: str, warning: str) -> bool:
    note = f" ({printable(warning)})" if warning else ""
    return _answer(f"reboot {host} now?{note} [y/N] ")


def _answer(question: str) -> bool:
    """One question at a time, however many hosts want one."""
    with _ONE_QUESTION:
        return says_yes(question)
