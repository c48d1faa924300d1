"""Standard streams: results on stdout, progress and complaints on stderr."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inventory import Host
from provisioner import show
from provisioner.errors import RigupError
from provisioner.text import one_line, printable
from provisioner.visible_log import VisibleLog

if TYPE_CHECKING:
    from provisioner.jobs import PerHost

NOTE_LIMIT = 20_000


def progress_lines(hosts: Sequence[Host]) -> Callable[[str, str, str], None]:
    width = max((len(host.name) for host in hosts), default=0)

    def show_line(host: str, step: str, text: str) -> None:
        note_line(f"{host:<{width}}  {step:<8} {text}")

    return show_line


def as_typed(text: str) -> str:
    """Hints name the program that the user runs: ``rigup`` or ``invoke``."""
    if Path(sys.argv[0]).name != "rigup":
        return text
    return re.sub(r"\binvoke (?=[a-z])", "rigup ", text)


def note(text: str) -> None:
    """Progress and hints go to stderr; stdout holds results only. One write: lines of several
    threads do not mix."""
    sys.stderr.write(printable(as_typed(text), limit=NOTE_LIMIT) + "\n")
    sys.stderr.flush()


def note_line(text: str) -> None:
    """:func:`note` of one line, whatever ``text`` holds, such as a file name from a host."""
    note(one_line(text))


def says_yes(question: str) -> bool:
    """A person's answer at the terminal; ctrl-d is a no. Asked on stderr, for stdout may be a pipe.
    Read past Python's buffer: a thread that waits there for ever would spoil the program's end."""
    sys.stderr.write(printable(question, limit=NOTE_LIMIT))
    sys.stderr.flush()
    answer = os.read(sys.stdin.fileno(), 4096).decode(errors="replace")
    return answer.strip().lower() in ("y", "yes")


def write_bytes(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def log_writer(*, raw: bool = False) -> Iterator[Callable[[bytes], None]]:
    """Writes a log to stdout: byte for byte to a pipe, a file, or where ``raw``; to a terminal
    only with its colours, all other control characters made visible."""
    if raw or not sys.stdout.isatty():
        yield write_bytes
        return
    log = VisibleLog()
    try:
        yield lambda data: write_bytes(log.feed(data))
    finally:
        write_bytes(log.finish())


def complain(error: RigupError | None) -> None:
    if error is not None:
        note(show.error_text(error))


def complain_all(results: Sequence[PerHost[Any]]) -> None:
    for _, _, error in results:
        complain(error)
