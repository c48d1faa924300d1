"""A longer call of Docker's client: watched while it runs, and ended with all that it started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, Deque, Dict, Optional, Sequence, Tuple

from remote_agent.image_progress import Lines
from remote_agent.kernel import end_with_parent

READ_SIZE = 1 << 16
LOOK_S = 0.25
"""How often ``look`` is called."""
POLITE_S = 0.5
"""Between asking a client to end, so that Docker ends its work, and killing it."""
KEPT_LINES = 40
NO_PROGRAM, CANNOT_RUN, TOO_LATE = 127, 126, 124
"""Exit codes as those of sh(1) and timeout(1)."""


@dataclass(frozen=True)
class Answer:
    """``lines``: the last :data:`KEPT_LINES` of both outputs, cut and cleaned."""

    code: int
    lines: Tuple[str, ...]


def run_docker(
    words: Sequence[str],
    timeout_s: float,
    look: Callable[[], None],
    take: Callable[[str], None],
    stdin: Optional[int] = None,
    env: Optional[Dict[str, str]] = None,
) -> Answer:
    """``take`` gets every line. ``look`` is called several times a second and may raise, which ends
    the client. ``env`` is added to its environment. It ends with this process in any case."""
    try:
        child = subprocess.Popen(
            ("docker", *words),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    except (FileNotFoundError, PermissionError) as error:
        return Answer(NO_PROGRAM, (str(error),))
    except OSError as error:
        return Answer(CANNOT_RUN, (str(error),))
    kept: Deque[str] = deque(maxlen=KEPT_LINES)
    try:
        if _follow(child, time.monotonic() + timeout_s, look, take, kept):
            return Answer(child.returncode, tuple(kept))
        said = "docker %s did not end within %g s" % (words[0], timeout_s)
        return Answer(TOO_LATE, (*kept, said))
    finally:
        _end(child)


def _follow(
    child: "subprocess.Popen[bytes]",
    deadline: float,
    look: Callable[[], None],
    take: Callable[[str], None],
    kept: Deque[str],
) -> bool:
    """Until it has ended, also where something that it started keeps its output open; False where
    that takes too long."""
    assert child.stdout is not None
    output, lines = child.stdout.fileno(), Lines()
    look_at, is_open = 0.0, True
    while time.monotonic() < deadline:
        if time.monotonic() >= look_at:
            look()
            look_at = time.monotonic() + LOOK_S
        data = b""
        if _is_readable(output, LOOK_S if is_open else 0.0):
            data = os.read(output, READ_SIZE)
            is_open = is_open and bool(data)
        for line in lines.feed(data) if data else ():
            kept.append(line)
            take(line)
        if not data and child.poll() is not None:
            kept.append(lines.rest())
            return True
        if not is_open:
            time.sleep(LOOK_S / 10)
    return False


def _is_readable(fd: int, patience_s: float) -> bool:
    return bool(select.select([fd], [], [], patience_s)[0])


def _end(child: "subprocess.Popen[bytes]") -> None:
    """With all that it started; nothing to do where it has ended by itself. It is not reaped
    before the last signal: until then nobody else can get the number of its process group."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + POLITE_S
        while not _has_ended(child.pid) and time.monotonic() < deadline:
            time.sleep(LOOK_S / 10)
        os.killpg(child.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            child.wait(POLITE_S)
    if child.stdout is not None:
        child.stdout.close()


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
