"""The agent's command line: ``serve`` for people's programs, the rest for the agent itself."""

from __future__ import annotations

import json
import sys
from typing import Callable, Dict, List

from remote_agent.faults import complain
from remote_agent.layout import DEFAULT_STATE_DIR, Layout

STATE_DIR_EXIT = 45
USAGE = "usage: agent.pyz serve [--state-dir DIR] | " + " | ".join(
    ("dispatch", "supervise", "recover", "prepare", "sweep", "nvml")
)


def main(argv: List[str]) -> int:
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    command = COMMANDS.get(verb)
    options = _options(rest)
    if command is None or options is None:
        complain(USAGE)
        return 2
    try:
        return command(options)
    except OSError as error:  # a full or read-only disk, a home that is gone
        complain("%s: %s" % (verb, error))
        return 1


def _options(words: List[str]) -> "Dict[str, str] | None":
    """``--name value`` pairs; None for anything else (argparse would cost a megabyte)."""
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        return None
    return {name[2:]: value for name, value in zip(names, values)}  # noqa: B905


def _layout(options: Dict[str, str]) -> Layout:
    return Layout.open(options.get("state-dir", DEFAULT_STATE_DIR))


def _serve(options: Dict[str, str]) -> int:
    try:
        layout = _layout(options)
    except OSError as error:
        told = {"type": "unavailable", "reason": "state-dir", "detail": str(error)}
        sys.stdout.write(json.dumps(told) + "\n")
        return STATE_DIR_EXIT
    from remote_agent.server import serve

    return serve(layout)


def _supervise(options: Dict[str, str]) -> int:
    from remote_agent.claim import supervise
    from remote_agent.runtimes.base import Gpu

    gpus = [Gpu.from_word(word) for word in options.get("gpus", "").split(",") if word]
    leases = [int(word) for word in options.get("leases", "").split(",") if word]
    if "standby" in options:
        from remote_agent.standby import wait_for_go

        told = wait_for_go(int(options["standby"]))
        if told is None:
            return 0
        gpus, leases = told
    supervise(_layout(options), options["job"], gpus, leases)
    return 0


def _recover(options: Dict[str, str]) -> int:
    from remote_agent.claim import recover

    recover(_layout(options), options["job"])
    return 0


def _dispatch(options: Dict[str, str]) -> int:
    from remote_agent.dispatcher import dispatch

    dispatch(_layout(options))
    return 0


def _prepare(options: Dict[str, str]) -> int:
    from remote_agent.image_preparation import prepare

    prepare(_layout(options), options["job"])
    return 0


def _sweep(options: Dict[str, str]) -> int:
    from remote_agent.sweep import sweep

    sweep(_layout(options))
    return 0


def _nvml(options: Dict[str, str]) -> int:
    from remote_agent.metrics.helper import answer_requests

    return answer_requests()


COMMANDS: Dict[str, Callable[[Dict[str, str]], int]] = {
    "serve": _serve,
    "supervise": _supervise,
    "recover": _recover,
    "dispatch": _dispatch,
    "prepare": _prepare,
    "sweep": _sweep,
    "nvml": _nvml,
}
