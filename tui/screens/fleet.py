"""The one screen: hosts and GPUs, jobs, and the selected job's log."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer

from remote_agent.protocol.job import JobRecord
from tui import actions
from tui.log_follower import JobKey, LogMessage
from tui.rows import Span
from tui.state import FleetState
from tui.text import plural
from tui.views.describe import describe
from tui.views.fleet import Clock, GpuKey, fleet_layout, fleet_rows, summary
from tui.views.jobs import job_layout, job_rows
from tui.views.panels import share_height
from tui.widgets.bars import Bar, PanelTitle
from tui.widgets.log_panel import LogPanel
from tui.widgets.row_list import RowList

NO_HOSTS = ("No hosts.", "Add some to inventory/hosts.yaml, or name one: --host NAME")
NO_JOBS = (
    "No jobs yet. Start one:",
    "  invoke train --script train.py --host NAME --gpus 1 --follow",
)
SETTLE_S = 0.15
"""The log changes this long after the cursor came to rest on a job."""


class FleetScreen(Screen[None]):
    """Shows what it is given; asks the application (by messages) for what has effects."""

    BINDINGS: ClassVar[list[BindingType]] = actions.bindings(actions.FLEET)

    class JobChosen(Message):
        """Another job's log is wanted; None when there is no job."""

        def __init__(self, key: JobKey | None) -> None:
            super().__init__()
            self.key = key

    class StopAsked(Message):
        def __init__(self, key: JobKey, record: JobRecord, at_once: bool) -> None:
            super().__init__()
            self.key, self.record, self.at_once = key, record, at_once

    class RetryAsked(Message):
        """Offline hosts should be tried again now."""

    class Described(Message):
        def __init__(self, title: str, lines: Sequence[Sequence[Span]]) -> None:
            super().__init__()
            self.title, self.lines = title, lines

    def __init__(self, state: FleetState, clock: Clock, *, readonly: bool, note: str) -> None:
        super().__init__()
        self._state, self._clock = state, clock
        self._readonly, self._note = readonly, note
        self._bar = Bar(id="header")
        self._fleet_title, self._jobs_title = PanelTitle(), PanelTitle()
        self._fleet, self._jobs = RowList(id="fleet"), RowList(id="jobs")
        self._fleet_panel = Vertical(self._fleet_title, self._fleet, id="fleet-panel")
        self._jobs_panel = Vertical(self._jobs_title, self._jobs, id="jobs-panel")
        self.log_panel = LogPanel(id="log-panel")
        self._announced: JobKey | None = None
        self._touched = False

    def compose(self) -> ComposeResult:
        yield self._bar
        yield self._fleet_panel
        yield self._jobs_panel
        yield self.log_panel
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._jobs.focus()
        self.show(self._state, self._clock)

    def show(self, state: FleetState, clock: Clock) -> None:
        """Brings the screen up to date; lines that did not change are not painted."""
        self._state, self._clock = state, clock
        width = self.size.width
        chips, name = self._chips(), (" rigup  ", "accent")
        room = width - sum(len(text) for text, _ in (*chips, name))
        self._bar.show([name, *summary(state, room)], chips)
        self._fleet_title.show([("Fleet", "strong")])
        self._jobs_title.show([("Jobs", "strong")])
        rows = fleet_rows(state, clock, width)
        self._fleet.show(rows, fleet_layout(state, width).header(), NO_HOSTS)
        jobs = job_rows(state, clock, width)
        self._jobs.show(jobs, job_layout(state, width).header() if jobs else (), self._no_jobs())
        self._share_height(len(rows), len(jobs))
        self._choose_first(jobs[0].key if jobs else None)

    def take_log(self, messages: Sequence[LogMessage]) -> None:
        for message in messages:
            self.log_panel.take(message)
        if messages:
            self.log_panel.flush()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("stop_job", "kill_job"):
            return None if self._readonly or not self._can_stop() else True
        if action == "open_log" and self._is_zoomed:
            return False
        if action in ("describe", "open_log", "filter", "follow", "wrap", "copy"):
            return True if self._chosen or action == "describe" else None
        if action == "back":
            return self._is_zoomed or self.log_panel.is_filtered
        return True

    def action_open_log(self) -> None:
        if self._fleet.has_focus and not self._choose_gpu_job():
            self.action_describe()
            return
        self.add_class("zoomed")
        self.log_panel.view.focus()
        self.refresh_bindings()

    def action_back(self) -> None:
        if self.log_panel.close_filter():
            return
        self.remove_class("zoomed")
        self._jobs.focus()
        self.refresh_bindings()

    def action_filter(self) -> None:
        self.log_panel.open_filter()
        self.refresh_bindings()

    def action_follow(self) -> None:
        self.log_panel.view.action_follow()

    def action_wrap(self) -> None:
        view = self.log_panel.view
        view.set_wrap(not view.wrap)

    def action_copy(self) -> None:
        """Through the terminal (OSC 52): it works over SSH too."""
        text = self.get_selected_text() or self.log_panel.view.visible_text()
        self.app.copy_to_clipboard(text)
        self.notify(f"copied {plural(len(text.splitlines()), 'line')}", timeout=2, markup=False)

    def action_panel(self, name: str) -> None:
        self.remove_class("zoomed")
        {"fleet": self._fleet, "jobs": self._jobs, "log": self.log_panel.view}[name].focus()

    def action_retry(self) -> None:
        self.post_message(self.RetryAsked())

    def action_describe(self) -> None:
        key = self._fleet.key if self._fleet.has_focus else self._chosen
        found = describe(self._state, key, self._clock)
        if found is not None:
            self.post_message(self.Described(*found))

    def action_stop_job(self) -> None:
        self._ask_stop(at_once=False)

    def action_kill_job(self) -> None:
        self._ask_stop(at_once=True)

    def on_row_list_highlighted(self, event: RowList.Highlighted) -> None:
        if event.rows is not self._jobs:
            return
        self._touched = self._touched or event.by_user
        self.refresh_bindings()
        if event.by_user:
            self.set_timer(SETTLE_S, self._announce)
        else:
            self._announce()

    def on_log_panel_filter_closed(self) -> None:
        self.log_panel.view.focus()
        self.refresh_bindings()

    def on_resize(self, event: events.Resize) -> None:
        self.show(self._state, self._clock)

    @property
    def _chosen(self) -> JobKey | None:
        """The job under the cursor."""
        key = self._jobs.key
        return key if isinstance(key, JobKey) else None

    @property
    def _is_zoomed(self) -> bool:
        return self.has_class("zoomed")

    def _announce(self) -> None:
        if self._chosen != self._announced:
            self._announced = self._chosen
            self.post_message(self.JobChosen(self._chosen))

    def _choose_first(self, first: Hashable | None) -> None:
        """Until somebody chooses, an ended job gives way to one that runs."""
        job = self._chosen_job()
        if not self._touched and first is not None and (job is None or job.is_final):
            self._jobs.select(first)

    def _choose_gpu_job(self) -> bool:
        """Moves to the job of the GPU under the fleet's cursor, if it has one."""
        key = self._fleet.key
        host = self._state.hosts.get(key.host) if isinstance(key, GpuKey) else None
        gpus = host.sample.gpus if host and host.sample else ()
        job_id = next(
            (g.job_id for g in gpus if isinstance(key, GpuKey) and g.index == key.index), None
        )
        if host is None or job_id is None or not self._jobs.select(JobKey(host.name, job_id)):
            return False
        self._touched = True
        return True

    def _chosen_job(self) -> JobRecord | None:
        key = self._chosen
        return self._state.job(key.host, key.job_id) if key else None

    def _can_stop(self) -> bool:
        job, key = self._chosen_job(), self._chosen
        return (
            job is not None and key is not None and not job.is_final and self._is_online(key.host)
        )

    def _is_online(self, host: str) -> bool:
        found = self._state.hosts.get(host)
        return found is not None and found.is_online

    def _ask_stop(self, *, at_once: bool) -> None:
        job, key = self._chosen_job(), self._chosen
        if job is not None and key is not None:
            self.post_message(self.StopAsked(key, job, at_once))

    def _chips(self) -> list[Span]:
        chips: list[Span] = []
        if any(gpu.simulated for gpu in self._state.gpus()):
            chips.append((f" {self._note} ", "sim"))
        if self._readonly:
            chips += [(" ", "text"), (" READ-ONLY ", "dim")]
        return [*chips, (" ", "text")]

    def _no_jobs(self) -> Sequence[str]:
        return NO_JOBS if self._state.online or not self._state.hosts else ()

    def _share_height(self, fleet: int, jobs: int) -> None:
        heights = share_height(
            self.size.height - 2, max(fleet, len(NO_HOSTS)), max(jobs, len(NO_JOBS))
        )
        self._fleet_panel.styles.height = heights.fleet
        self._jobs_panel.styles.height = heights.jobs
