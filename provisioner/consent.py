"""A person's yes, before hosts go down or things are removed."""

from __future__ import annotations

import sys
import threading

from provisioner.errors import BlockedError
from provisioner.reboot import RebootPolicy

_ONE_QUESTION = threading.Lock()


def reboot_policy(allowed: bool, yes: bool, timeout_s: float) -> RebootPolicy:
    """Reboots as asked for on the command line: with ``yes`` at once, else each host's after a
    question at the terminal. Raises BlockedError where there is nobody to ask."""
    if allowed and not yes and not sys.stdin.isatty():
        raise BlockedError(
            "--reboot needs a person's yes", remedy="add --yes, or run it at a terminal"
        )
    return RebootPolicy(allowed, timeout_s, _at_once if yes else _asked)


def _at_once(host: str, warning: str) -> bool:
    return True


def _asked(host: str, warning: str) -> bool:
    """One question at a time, however many hosts want one."""
    note = f" ({warning})" if warning else ""
    with _ONE_QUESTION:
        try:
            answer = input(f"reboot {host} now?{note} [y/N] ")
        except EOFError:
            return False
    return answer.strip().lower() in ("y", "yes")
