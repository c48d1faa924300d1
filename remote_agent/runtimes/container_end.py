"""What a container's end means: could it start, how did it end, and who ended it. Pure."""

from __future__ import annotations

import signal
import time
from typing import Any, Dict, Optional, Sequence

from remote_agent.docker import Container
from remote_agent.faults import CouldNotStart
from remote_agent.protocol.job import JobSpec
from remote_agent.runtimes.base import Ending
from remote_agent.runtimes.container_command import SHELL, STARTER

DAEMON_ERROR = 125
"""`docker run` exits so when Docker itself refused; otherwise with the program's own code."""
STARTING_PROBLEMS = {126: "cannot be executed", 127: "was not found"}
INIT_COMPLAINT = "[FATAL tini"
"""What docker-init (tini) prints when it cannot execute the program: Docker itself then only sees
an exit code, which a program could have returned as well."""
NO_SUCH_IMAGE = "no such image"
BLAMED_S = 60.0
"""A signal that Docker sent longer than this before the end is not taken for its cause."""
ENDING_SIGNALS = ("HUP", "INT", "QUIT", "ABRT", "KILL", "TERM")
CRASH_SIGNALS = ("ILL", "BUS", "FPE", "SEGV")
LOG_HINT = (
    "the container's user must be able to write the job's directory: check userns-remap in "
    "Docker's daemon.json, and SELinux"
)


def lacks_shell(container: Container, client: Sequence[str]) -> bool:
    """Did a direct container fail only because its image has no shell? ``client``: the last lines
    of Docker's client."""
    if not container.direct or container.exit_code not in STARTING_PROBLEMS:
        return False
    return SHELL in container.error or SHELL in _complaint_of_init(client)


def ending_of_container(
    container: Container, spec: JobSpec, client: Sequence[str], log: Sequence[str]
) -> Ending:
    """The container's own account of its end. ``client``, ``log``: the last lines of Docker's
    client and of the job's log, whose complaints explain an exit code."""
    code = container.exit_code
    why = container.error or _complaint_of_init(client) or _complaint_of_shell(log)
    if container.status == "created":
        return Ending(could_not_start=_unstarted(code, why or "never started", spec))
    if why and code in (DAEMON_ERROR, *STARTING_PROBLEMS):
        return Ending(could_not_start=_unstarted(code, why, spec))
    unwritable = _complaint_of_shell(client)
    if container.direct and unwritable and code != 0:
        said = "the job's log cannot be written in the container: %s" % unwritable
        return Ending(could_not_start=CouldNotStart(said, LOG_HINT))
    return Ending(exit_code=code, signal=fatal_signal(code), oom_killed=container.oom_killed)


def fatal_signal(code: int) -> Optional[int]:
    """Docker's init, like a shell, ends with 128 + the signal that ended the program."""
    names = ["SIG" + name for name in (*ENDING_SIGNALS, *CRASH_SIGNALS)]
    return next((n for n in map(signal.Signals.__getitem__, names) if code == 128 + n), None)


def refusal(said: Sequence[str], spec: JobSpec) -> CouldNotStart:
    """There never was a container."""
    if any(NO_SUCH_IMAGE in line.lower() for line in said):
        evidence = "its image %s is not on the host any more" % spec.image
        return CouldNotStart(evidence, "run it again: what is missing then comes again")
    told = [line for line in said if line.startswith(("docker:", "Unable", "Error"))]
    return CouldNotStart(
        "docker run refused: %s" % (told[-1] if told else (said or ["no reason given"])[-1]),
        "check the image name %s and that the host can pull it" % spec.image,
    )


def who_ended_it(events: Sequence[Dict[str, Any]]) -> str:
    """In words, as far as Docker's events tell; "" where nobody asked Docker to end it."""
    actions = [str(event.get("Action", "")) for event in events]
    died = max((_when(e) for e in events if e.get("Action") == "die"), default=None)
    kills = [e for e in events if e.get("Action") == "kill" and _is_ending(e)]
    if died is not None:
        kills = [event for event in kills if 0 <= died - _when(event) <= BLAMED_S]
    if not kills:
        return ""
    if "destroy" in actions:
        at = max(_when(event) for event in events if event.get("Action") == "destroy")
        return "its container was removed from outside (docker rm -f) at %s" % _clock(at)
    names = ", then ".join(_signal_of(event) for event in kills)
    stopped = "stop" in actions or names.startswith("SIGTERM")
    verb = "docker stop" if stopped else "docker kill"
    return "%s from outside: Docker was asked to send it %s at %s" % (
        verb,
        names,
        _clock(_when(kills[-1])),
    )


def code_at_death(events: Sequence[Dict[str, Any]]) -> Optional[int]:
    """The exit code that Docker told when a container ended that is gone now."""
    for event in reversed(events):
        if event.get("Action") == "die":
            try:
                return int(event["Actor"]["Attributes"]["exitCode"])
            except (KeyError, TypeError, ValueError):
                return None
    return None


def _unstarted(code: int, said: str, spec: JobSpec) -> CouldNotStart:
    program = spec.argv[0]
    if code not in STARTING_PROBLEMS or "gpu" in said.lower():
        return CouldNotStart(said, "run `rigup provision` for this host")
    return CouldNotStart(
        "%s %s in the image: %s" % (program, STARTING_PROBLEMS[code], said),
        "check that %s has it" % spec.image,
    )


def _complaint_of_init(client: Sequence[str]) -> str:
    return next((line for line in reversed(client) if line.startswith(INIT_COMPLAINT)), "")


def _complaint_of_shell(lines: Sequence[str]) -> str:
    """It is the last that a shell says."""
    last = lines[-1] if lines else ""
    return last if last.startswith(STARTER + ":") else ""


def _is_ending(event: Dict[str, Any]) -> bool:
    return _signal_of(event) in ["SIG" + name for name in ENDING_SIGNALS]


def _signal_of(event: Dict[str, Any]) -> str:
    """Docker tells a number, or what the person typed."""
    try:
        told = str(event["Actor"]["Attributes"]["signal"]).upper()
        return signal.Signals(int(told)).name if told.isdigit() else "SIG" + told.replace("SIG", "")
    except (KeyError, TypeError, ValueError):
        return "a signal"


def _when(event: Dict[str, Any]) -> float:
    at = event.get("timeNano", 0)
    return at / 1e9 if isinstance(at, (int, float)) else 0.0


def _clock(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
