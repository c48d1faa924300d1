"""What a person may want to know before the change, and what blocks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from provisioner.facts import GPU, KERNEL, PACKAGES, FactUnreadable
from provisioner.preflight.situation import Situation
from provisioner.preflight.space import image_note

SHOWN = 5


def find_notes(situation: Situation) -> list[str]:
    """Where there is something to do; a fact that cannot be read is for the steps to report."""
    if not (situation.ahead.changes or situation.ahead.blocked):
        return []
    return [note for find in FINDERS for note in _read(find, situation)]


def _read(find: Callable[[Situation], Iterator[str]], situation: Situation) -> list[str]:
    with suppress(FactUnreadable):
        return list(find(situation))
    return []


def _locked(situation: Situation) -> Iterator[str]:
    packages = situation.facts[PACKAGES]
    if packages.busy:
        holder = f" ({packages.lock_holder})" if packages.lock_holder else ""
        yield f"another package manager is at work{holder} and will be waited for"


def _kernel(situation: Situation) -> Iterator[str]:
    kernel = situation.facts[KERNEL]
    if kernel.container is not None:
        return
    if kernel.next != kernel.running:
        yield f"kernel {kernel.running} runs, the next boot brings {kernel.next}"
    elif kernel.reboot_required:
        yield "the host's own packages ask for a reboot"
    if kernel.secure_boot and "driver" in situation.ahead.changes:
        yield "Secure Boot is on: the kernel loads signed modules only"


def _gpu_users(situation: Situation) -> Iterator[str]:
    users = situation.facts[GPU].processes
    if not users or not {"driver", "toolkit", "docker"} & set(situation.ahead.changes):
        return
    named = [f"{user.name} of {user.user} (pid {user.pid})" for user in users[:SHOWN]]
    more = f" and {len(users) - SHOWN} more" if len(users) > SHOWN else ""
    yield f"GPUs are in use by {', '.join(named)}{more}"


def _blocked_later(situation: Situation) -> Iterator[str]:
    for name, blocked in situation.ahead.blocked.items():
        yield f"{name} will stop: {blocked.reason}"


FINDERS: tuple[Callable[[Situation], Iterator[str]], ...] = (
    _locked,
    _kernel,
    _gpu_users,
    image_note,
    _blocked_later,
)
