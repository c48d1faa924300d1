"""The terminal dashboard: hosts, GPUs, jobs and logs of a whole fleet.

Textual is imported when the dashboard starts, so that importing this package costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inventory.model import Host

if TYPE_CHECKING:
    from tui.feeds import Client

__all__ = ["run", "screenshot"]


def run(
    hosts: Sequence[Host],
    connect: Callable[[Host], Client],
    *,
    readonly: bool = False,
    refresh_s: float = 1.0,
    simulated_note: str | None = None,
) -> int:
    """Runs the dashboard in this terminal until the user quits; returns the exit code: 1 when a
    host was offline at the end, else 0.

    ``connect`` opens an agent client for a host; it is called in threads, again after every lost
    link. ``readonly`` turns everything off that changes a host. ``refresh_s``: seconds between
    samples. ``simulated_note`` is what the header says where a GPU is simulated.
    """
    from tui.app import DashboardApp

    app = DashboardApp(
        hosts, connect, readonly=readonly, refresh_s=refresh_s, simulated_note=simulated_note
    )
    try:
        app.run()
    finally:
        app.close()
    return app.return_code or app.verdict


def screenshot(
    hosts: Sequence[Host],
    connect: Callable[[Host], Client],
    path: Path,
    *,
    size: tuple[int, int] = (140, 42),
    settle_s: float = 1.0,
    timeout_s: float = 30.0,
    simulated_note: str | None = None,
) -> int:
    """Saves a picture of the dashboard on real feeds; ``path`` ends in ``.svg`` or ``.png``.
    Returns 1 when a host was offline or had not told yet, else 0.

    The picture is taken ``settle_s`` after every host is online with a sample, or offline with a
    reason, at the latest after ``timeout_s``: one host that never tells does not hide the others.
    Raises UsageError for another suffix, or where CairoSVG, which PNG needs, is not installed.
    """
    from tui.picture import save

    return save(
        hosts,
        connect,
        path,
        size=size,
        settle_s=settle_s,
        timeout_s=timeout_s,
        simulated_note=simulated_note,
    )
