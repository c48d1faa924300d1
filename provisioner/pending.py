"""The record of a reboot that was asked for: on the host, for whoever comes next, and here, for
the time when the host does not answer."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from provisioner.facts.pending import PendingReboot
from provisioner.home import rigup_home, write_private


def remember(host: str, pending: PendingReboot) -> None:
    write_private(_path(host), pending.to_json().encode())


def recall(host: str) -> PendingReboot | None:
    """What :func:`remember` wrote; None where nothing (readable) is there."""
    with suppress(OSError, ValueError):
        return PendingReboot.from_json(_path(host).read_text("utf-8"))
    return None


def forget(host: str) -> None:
    _path(host).unlink(missing_ok=True)


def told(pending: PendingReboot) -> str:
    """``a reboot was asked for at 2026-11-21 06:30:00 (step driver)``, in local time."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(pending.asked_at))
    return f"a reboot was asked for at {moment} (step {pending.step})"


def _path(host: str) -> Path:
    return rigup_home() / "reboots" / f"{host}.json"
