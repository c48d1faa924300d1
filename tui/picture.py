"""A picture of the dashboard, without a terminal."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inventory.model import Host
from provisioner.errors import UsageError
from tui.app import DashboardApp
from tui.feeds import Connect

LOOK_S = 0.05
CELL = 12.2
"""Width of a cell in the SVGs that Rich writes."""
PIXELS_PER_CELL = 24
"""Whole pixels: Cairo rounds the advance of every glyph."""
ADVANCE_EM = 0.602
"""Advance of DejaVu Sans Mono."""


def save(
    hosts: Sequence[Host],
    connect: Connect,
    path: Path,
    *,
    size: tuple[int, int],
    settle_s: float,
    timeout_s: float,
    simulated_note: str | None = None,
) -> int:
    """See ``tui.screenshot``."""
    _check_path(path)
    app = DashboardApp(hosts, connect, simulated_note=simulated_note)
    try:
        svg, all_told = asyncio.run(_draw(app, size, settle_s, timeout_s))
    finally:
        app.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".svg":
        path.write_text(svg, encoding="utf-8")
    else:
        path.write_bytes(to_png(svg))
    return app.verdict if all_told else 1


def to_png(svg: str) -> bytes:
    """About twice the size of the SVG. Raises UsageError without CairoSVG."""
    scale = PIXELS_PER_CELL / CELL
    rendered = _cairosvg().svg2png(bytestring=_with_local_font(svg).encode(), scale=scale)
    return bytes(rendered)


def _check_path(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise UsageError(f"cannot save {path.name}", remedy="name a file that ends in .svg or .png")
    if suffix == ".png":
        _cairosvg()


def _cairosvg() -> Any:
    try:
        return importlib.import_module("cairosvg")
    except (ImportError, OSError) as error:
        raise UsageError(
            f"PNG needs CairoSVG: {error}",
            remedy="pip install cairosvg (and the system's libcairo2), or save an .svg",
        ) from error


def _with_local_font(svg: str) -> str:
    """CairoSVG loads no web fonts and ignores textLength: a system font, as wide as a cell."""
    local = svg.replace("Fira Code", "DejaVu Sans Mono")
    return local.replace("font-size: 20px", f"font-size: {CELL / ADVANCE_EM:.3f}px")


async def _draw(
    app: DashboardApp, size: tuple[int, int], settle_s: float, timeout_s: float
) -> tuple[str, bool]:
    """The picture, and whether every host had told by then."""
    async with app.run_test(size=size) as pilot:
        deadline = time.monotonic() + timeout_s
        while not app.fleet.is_settled and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(settle_s)
        await pilot.pause()
        return app.export_screenshot(title="rigup"), app.fleet.is_settled
