"""The application: takes the feeds' messages in, and does what the screen asks for."""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeAlias

from textual.app import App
from textual.binding import BindingType
from textual.command import Provider
from textual.message import Message as TextualMessage

from inventory.model import Host
from remote_agent.protocol.job import JobRecord
from tui import actions
from tui.feeds import CLOSE_WAIT_S, Client, Connect, Feeds, HostFeed, failure_of, join_all, spawn
from tui.log_follower import JobKey, LogArrived, LogEnded, LogFollower, LogMessage, LogWaiting
from tui.palette import ActionProvider
from tui.screens.dialogs import ConfirmDialog, TextDialog, help_dialog
from tui.screens.fleet import FleetScreen
from tui.state import FleetState, JobChanged, Message, reduce
from tui.text import clean
from tui.theme import THEME
from tui.views.fleet import Clock

FLUSH_S = 0.06
"""Messages are taken in together, some 16 times a second."""
TABLES_S = 0.25
"""The tables are drawn at most this often; with 64 hosts a drawing takes some 50 ms."""
GRACE_S = 10.0
SIMULATED = "SIMULATED"

Incoming: TypeAlias = "Message | LogMessage"
MakeFeed: TypeAlias = Callable[[Host, Callable[[Incoming], None]], HostFeed]


class Inbox:
    """Messages from any thread; ``wake`` is called when it is no longer empty."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._messages: deque[Incoming] = deque()
        self._wake = wake
        self._awake = False
        self._closed = False

    def put(self, message: Incoming) -> None:
        if self._closed:
            return
        self._messages.append(message)
        if not self._awake:
            self._awake = True
            self._wake()

    def close(self) -> None:
        """What comes from now on is dropped."""
        self._closed = True

    def take(self) -> list[Incoming]:
        self._awake = False
        return [self._messages.popleft() for _ in range(len(self._messages))]


class DashboardApp(App[int]):
    """Runs until ``q``; ``close`` then ends what still runs, without waiting for hung hosts."""

    CSS_PATH = "dashboard.tcss"
    TITLE = "rigup"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider]]] = {ActionProvider}  # type: ignore[assignment]
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.APP)

    class Woken(TextualMessage):
        """The inbox is no longer empty."""

    def __init__(
        self,
        hosts: Sequence[Host],
        connect: Connect,
        *,
        readonly: bool = False,
        refresh_s: float = 1.0,
        simulated_note: str | None = None,
        make_feed: MakeFeed | None = None,
    ) -> None:
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.animation_level = "none"
        self._readonly = readonly
        self._refresh_s = refresh_s
        self.inbox = Inbox(lambda: self.post_message(self.Woken()))
        make = make_feed or partial(_make_feed, connect, refresh_s)
        self.feeds = Feeds(make(host, self.inbox.put) for host in hosts)
        self.fleet = FleetState.of(host.name for host in hosts)
        note = clean(simulated_note or SIMULATED, 60)
        self.board = FleetScreen(self.fleet, self._clock(), readonly=readonly, note=note)
        self._show_is_due, self._shown_at = False, 0.0
        self._follower: LogFollower | None = None
        self._old_followers: list[threading.Thread] = []

    def get_default_screen(self) -> FleetScreen:
        return self.board

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(THEME.variables)

    def on_mount(self) -> None:
        self.feeds.start()
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(_freeze)

    def on_unmount(self) -> None:
        self.inbox.close()

    def close(self, wait_s: float = CLOSE_WAIT_S) -> bool:
        """Ends every thread and link. True when all ended within ``wait_s``."""
        self._follow(None)
        return self.feeds.close(wait_s) and join_all(self._old_followers, wait_s)

    def on_dashboard_app_woken(self) -> None:
        self.set_timer(FLUSH_S, self._drain)

    def on_fleet_screen_job_chosen(self, event: FleetScreen.JobChosen) -> None:
        key = event.key
        self.board.log_panel.open(key, self.fleet.job(key.host, key.job_id) if key else None)
        self._follow(key)

    def on_fleet_screen_stop_asked(self, event: FleetScreen.StopAsked) -> None:
        name = clean(event.record.spec.name) or event.key.job_id
        verb = "Kill" if event.at_once else "Stop"
        how = f"It is asked to end (SIGTERM), and killed after {GRACE_S:.0f} s."
        if event.at_once:
            how = "It is killed at once and cannot save anything."
        grace_s = 0.0 if event.at_once else GRACE_S
        where = f"{event.key.job_id} on {event.key.host}"
        self.push_screen(
            ConfirmDialog(f"{verb} {name}?", f"{where}\n\n{how}", verb),
            lambda yes: self._stop(event.key, grace_s) if yes else None,
        )

    def on_fleet_screen_described(self, event: FleetScreen.Described) -> None:
        self.push_screen(TextDialog(event.title, event.lines))

    def on_fleet_screen_retry_asked(self) -> None:
        for feed in self.feeds.by_host.values():
            feed.retry_now()

    @property
    def verdict(self) -> int:
        """Exit code: 1 when a host is known to be offline."""
        return int(
            any(host.is_settled and not host.is_online for host in self.fleet.hosts.values())
        )

    def action_help(self) -> None:
        if not isinstance(self.screen, TextDialog):
            self.push_screen(help_dialog(self._readonly))

    async def action_quit(self) -> None:
        self.exit(0)

    def action_help_quit(self) -> None:
        self.notify("q quits; jobs go on", timeout=3)

    def _drain(self) -> None:
        before = self.fleet
        logs: list[LogMessage] = []
        for message in self.inbox.take():
            if isinstance(message, (LogArrived, LogWaiting, LogEnded)):
                logs.append(message)
                self._learn(message)
            else:
                self.fleet = reduce(self.fleet, message)
        self.board.take_log(logs)
        self._acknowledge(logs)
        if self.fleet is not before:
            self._show_soon()

    def _learn(self, message: LogMessage) -> None:
        """A log's record may know of a new state before the watch does."""
        if isinstance(message, LogArrived):
            known = self.fleet.job(message.key.host, message.key.job_id)
            if known is None or known.state != message.record.state:
                self.fleet = reduce(self.fleet, JobChanged(message.key.host, message.record))

    def _acknowledge(self, logs: Sequence[LogMessage]) -> None:
        follower = self._follower
        if follower is not None:
            mine = (log for log in logs if isinstance(log, LogArrived) and log.key == follower.key)
            follower.shown(sum(len(log.data) for log in mine))

    def _show_soon(self) -> None:
        wait = self._shown_at + TABLES_S - time.monotonic()
        if wait <= 0:
            self._show()
        elif not self._show_is_due:
            self._show_is_due = True
            self.set_timer(wait, self._show)

    def _show(self) -> None:
        self._show_is_due, self._shown_at = False, time.monotonic()
        self.board.show(self.fleet, self._clock())

    def _tick(self) -> None:
        self.feeds.drop_silent(time.monotonic())
        self._show()

    def _clock(self) -> Clock:
        return Clock(time.monotonic(), time.time(), self._refresh_s)

    def _follow(self, key: JobKey | None) -> None:
        if self._follower is not None:
            thread = self._follower.stop()
            self._old_followers = [each for each in self._old_followers if each.is_alive()]
            self._old_followers += [thread] if thread else []
            self._follower = None
        feed = self.feeds.by_host.get(key.host) if key else None
        if feed is not None and key is not None:
            self._follower = LogFollower(feed, key.job_id, self.inbox.put)
            self._follower.start()

    def _stop(self, key: JobKey, grace_s: float) -> None:
        feed = self.feeds.by_host[key.host]
        client = feed.client()
        if client is None:
            self.notify(
                f"{key.host} is not connected", title="Not stopped", severity="error", markup=False
            )
            return
        self.notify(f"{key.job_id}: asked to stop", markup=False)
        spawn(f"stop {key.job_id}", lambda: self._stopped(key, _attempt_stop(client, key, grace_s)))

    def _stopped(self, key: JobKey, outcome: JobRecord | str) -> None:
        """Runs in the thread of the request."""
        if isinstance(outcome, JobRecord):
            self.inbox.put(JobChanged(key.host, outcome))
            return
        say = partial(self.notify, outcome, title="Not stopped", severity="error", markup=False)
        self.call_later(say)


def _make_feed(
    connect: Connect, refresh_s: float, host: Host, post: Callable[[Incoming], None]
) -> HostFeed:
    return HostFeed(host, connect, post, interval_s=refresh_s)


def _attempt_stop(client: Client, key: JobKey, grace_s: float) -> JobRecord | str:
    """The job's new record, or why it was not stopped."""
    try:
        return client.stop(key.job_id, grace_s=grace_s)
    except Exception as error:  # shown to the user
        failure = failure_of(error)
        return f"{failure.reason}\ntry: {failure.remedy}" if failure.remedy else failure.reason


def _freeze() -> None:
    """What start-up made stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
