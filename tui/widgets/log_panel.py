"""The log of one job: title, lines, filter."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from remote_agent.protocol.job import QUEUED, JobRecord
from tui.log_buffer import LogBuffer
from tui.log_follower import JobKey, LogArrived, LogEnded, LogMessage, LogWaiting
from tui.log_stream import LogStream
from tui.rows import Span
from tui.text import clean, plural, size
from tui.widgets.bars import PanelTitle
from tui.widgets.log_view import LogView

MAX_REASON = 70
"""Characters of why a queued job waits."""


class LogPanel(Vertical):
    """Takes a follower's messages and shows them; ``open`` begins with another job."""

    class FilterClosed(Message):
        """The filter line was left; the focus belongs to the log again."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.view = LogView(id="log")
        self._title = PanelTitle()
        self._filter = Input(placeholder="text, or !text to hide it", id="filter", compact=True)
        self._stream = LogStream(self.view.buffer)
        self._key: JobKey | None = None
        self._record: JobRecord | None = None
        self._status: Span = ("", "dim")
        self._log_size = 0

    @property
    def is_filtered(self) -> bool:
        return bool(self._filter.display or self.view.query_text)

    def compose(self) -> ComposeResult:
        yield self._title
        yield self.view
        yield self._filter

    def on_mount(self) -> None:
        self._filter.display = False
        self._show_title()

    def open(self, key: JobKey | None, record: JobRecord | None) -> None:
        """An empty log for ``key``; None for no job at all."""
        buffer = LogBuffer()
        self._stream = LogStream(buffer)
        self._key, self._record, self._log_size = key, record, 0
        self._status = ("opening\u2026", "dim") if key else ("", "dim")
        self.view.open(buffer)
        self._show_title()

    def take(self, message: LogMessage) -> None:
        """Takes one message in; call ``flush`` after the last one of a batch."""
        if message.key != self._key:
            return
        match message:
            case LogArrived():
                self._stream.feed(message.offset, message.data, message.size)
                self._record, self._log_size = message.record, message.size
                self._status = ("", "dim")
            case LogWaiting():
                self._status = (f"goes on at {size(message.at)}: {message.reason}", "warn")
            case LogEnded():
                self._status = (message.reason, "bad") if message.reason else ("ended", "dim")

    def flush(self) -> None:
        self.view.flush()
        self._show_title()

    def open_filter(self) -> None:
        self._filter.display = True
        self._filter.focus()

    def close_filter(self) -> bool:
        """Shows all lines again. False when there was no filter."""
        if not self.is_filtered:
            return False
        self._filter.value = ""
        self.view.set_filter("")
        self._hide_filter()
        return True

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.view.set_filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._hide_filter()

    def on_log_view_changed(self) -> None:
        self._show_title()

    def _hide_filter(self) -> None:
        self._filter.display = False
        self.post_message(self.FilterClosed())

    def _show_title(self) -> None:
        self._title.show(self._heading(), self._notes())

    def _heading(self) -> list[Span]:
        if self._key is None:
            return [("Log", "strong")]
        name = clean(self._record.spec.name) if self._record else ""
        heading: list[Span] = [("Log  ", "strong"), (name or clean(self._key.job_id), "accent")]
        heading.append((f"  on {clean(self._key.host)}", "dim"))
        if self._log_size:
            heading.append((f"  {size(self._log_size)}", "dim"))
        return heading

    def _notes(self) -> list[Span]:
        notes: list[Span] = []
        if self.view.query_text:
            notes.append((f"only \u201c{clean(self.view.query_text, 30)}\u201d  ", "accent"))
        if self._waits():
            reason = clean(self._record.waiting_for, MAX_REASON) if self._record else ""
            notes.append((reason or "waiting for its turn", "dim"))
        elif self._status[0]:
            notes.append(self._status)
        if self._key is not None:
            notes.append(self._place())
        return notes

    def _waits(self) -> bool:
        return self._record is not None and self._record.state == QUEUED

    def _place(self) -> Span:
        if self.view.following:
            return ("  following", "good") if self._status[0] != "ended" else ("", "dim")
        new = f"+{plural(self.view.unseen, 'line')}  " if self.view.unseen else ""
        return f"  {new}f to follow", "accent" if self.view.unseen else "dim"
