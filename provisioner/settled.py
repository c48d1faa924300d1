"""Facts that are read while packages are being installed are half true: wait for the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from provisioner.errors import StepFailed
from provisioner.facts import PACKAGES, Facts, FactUnreadable

PACKAGE_WAIT_S = 600
PACKAGE_POLL_S = 3


def settled(
    read: Callable[[], Facts], tell: Callable[[str], None], sleep: Callable[[float], None]
) -> Facts:
    """What ``read`` gives once no package manager is at work (a killed run's goes on, unattended
    upgrades come when they like). Raises StepFailed when it takes too long."""
    for _ in range(PACKAGE_WAIT_S // PACKAGE_POLL_S):
        facts = read()
        if not _is_busy(facts):
            return facts
        tell("another package manager is at work, waiting")
        sleep(PACKAGE_POLL_S)
    raise StepFailed(
        f"another package manager has been at work for {PACKAGE_WAIT_S} s",
        remedy="look at it on the host (ps, /var/log/apt), then provision again",
    )


def _is_busy(facts: Facts) -> bool:
    with suppress(FactUnreadable):
        return facts[PACKAGES].busy
    return False
