"""Running the dashboard headless against in-memory agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from textual.pilot import Pilot

from tests.tui.fakes import FakeAgent, HangingConnect, host
from tui.app import DashboardApp
from tui.feeds import Backoff, HostFeed
from tui.log_buffer import plain
from tui.screens.fleet import FleetScreen
from tui.widgets.bars import Bar
from tui.widgets.log_view import LogView
from tui.widgets.row_list import RowList

NO_WAIT = Backoff(first_s=0.0, most_s=0.0, blocked_s=0.0)
PATIENCE_S = 10.0

Agents = Mapping[str, "FakeAgent | HangingConnect"]


@dataclass
class Board:
    """A running dashboard, as its user sees it."""

    app: DashboardApp
    pilot: Pilot[int]

    @property
    def screen(self) -> FleetScreen:
        return self.app.board

    @property
    def log(self) -> LogView:
        return self.screen.query_one(LogView)

    @property
    def jobs(self) -> RowList:
        return self.screen.query_one("#jobs", RowList)

    @property
    def fleet(self) -> RowList:
        return self.screen.query_one("#fleet", RowList)

    @property
    def log_lines(self) -> list[str]:
        buffer = self.log.buffer
        return [plain(buffer.line(number)) for number in range(buffer.first, buffer.end)]

    @property
    def log_title(self) -> str:
        return self.screen.log_panel.query_one(Bar).text

    def painted(self) -> list[str]:
        """Every line of the screen, as the terminal gets it."""
        width, height = self.app.size
        compositor = self.app.screen._compositor
        return [
            "".join(segment.text for segment in strip)[:width]
            for strip in compositor.render_strips()
        ][:height]

    def text(self) -> str:
        return "\n".join(self.painted())

    async def until(self, wanted: Callable[[], object], what: str = "") -> None:
        """Lets the dashboard work until ``wanted``; other threads are its only clock."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < deadline, what or self.text()
            await self.pilot.pause(0.002)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()


MakeBoard = Callable[..., AbstractAsyncContextManager[Board]]


@pytest.fixture
def board() -> MakeBoard:
    """``async with board({"gpu01": agent}, size=(80, 24)) as b:``; closed without leftovers."""

    @asynccontextmanager
    async def run(
        agents: Agents,
        *,
        size: tuple[int, int] = (120, 40),
        backoff: Backoff = NO_WAIT,
        **options: bool,
    ) -> AsyncIterator[Board]:
        def connect(asked: object) -> object:
            agent = agents[asked.name]  # type: ignore[attr-defined]
            return agent(asked) if isinstance(agent, HangingConnect) else agent.connect(asked)  # type: ignore[arg-type]

        hosts = [host(name) for name in agents]
        make = partial(_make_feed, connect, backoff)
        app = DashboardApp(hosts, connect, make_feed=make, **options)  # type: ignore[arg-type]
        try:
            async with app.run_test(size=size, notifications=True) as pilot:
                yield Board(app, pilot)
        finally:
            ended = await asyncio.to_thread(app.close, 5.0 * all_answer(agents))
        assert ended or not all_answer(agents)

    return run


def all_answer(agents: Agents) -> bool:
    return not any(isinstance(agent, HangingConnect) for agent in agents.values())


def _make_feed(connect: object, backoff: Backoff, asked: object, post: object) -> HostFeed:
    return HostFeed(asked, connect, post, backoff=backoff)  # type: ignore[arg-type]
