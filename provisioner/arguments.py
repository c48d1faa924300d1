"""What a user typed, read and checked. Every refusal is a UsageError that names the option."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from provisioner.command import Secret
from provisioner.errors import BlockedError, UsageError
from provisioner.parallel import MAX_AT_ONCE
from provisioner.terminal import says_yes

if TYPE_CHECKING:  # no other command needs what provisioning does
    from provisioner.fleet import Pace
    from provisioner.reboot import RebootPolicy


def sudo_password(ask: bool, descriptor: str | None) -> Secret | None:
    if descriptor is not None:
        number = whole_number(descriptor, "--sudo-password-fd", 0, 1 << 20)
        try:
            with os.fdopen(number) as file:
                return Secret(file.readline().rstrip("\n"))
        except OSError as error:
            raise UsageError(f"--sudo-password-fd {number}: {error.strerror}") from error
    if ask and not sys.stdin.isatty():
        raise UsageError(
            "--ask-sudo-password needs a terminal", remedy="--sudo-password-fd N in scripts"
        )
    return Secret(getpass.getpass("sudo password: ")) if ask else None


def names(text: str | None, option: str) -> tuple[str, ...]:
    """``a,b`` as names; none for None."""
    if text is None:
        return ()
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise UsageError(f"{option} {text!r}: expected names, separated by commas")
    return found


def pace(serial: str | None, timeout: str | None, fail_fast: bool) -> Pace:
    from provisioner.fleet import Pace

    return Pace(
        at_once=MAX_AT_ONCE if serial is None else whole_number(serial, "--serial", 1, MAX_AT_ONCE),
        timeout_s=None if timeout is None else whole_number(timeout, "--timeout", 1, 1 << 20),
        fail_fast=fail_fast,
    )


def reboots(allowed: bool, yes: bool, timeout: str) -> RebootPolicy:
    from provisioner.consent import reboot_policy

    return reboot_policy(allowed, yes, whole_number(timeout, "--reboot-timeout", 10, 86_400))


def removal_agreement(yes: bool) -> Callable[[str, str], bool] | None:
    from provisioner import consent

    return consent.removal_agreement(yes)


def environment(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name.isidentifier():
            raise UsageError(f"--env {name}: not a variable name", remedy="--env NAME=VALUE")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: not set here", remedy=f"--env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def whole_number(text: object, option: str, least: int, most: int) -> int:
    try:
        number = int(str(text))
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected a whole number") from None
    if not least <= number <= most:
        raise UsageError(f"{option} {number}: expected {least} to {most}")
    return number


def after_dashes(argv: Sequence[str]) -> tuple[str, ...]:
    """Invoke joins what follows ``--`` with spaces; the words themselves are still in argv."""
    return tuple(argv[argv.index("--") + 1 :]) if "--" in argv else ()


def confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise BlockedError(f"confirmation required: {question}", remedy="check it, then add --yes")
    if not says_yes(f"{question} [y/N] "):
        raise BlockedError("not confirmed; nothing was changed")
