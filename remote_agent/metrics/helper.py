"""``agent.pyz nvml``: one JSON line of GPU figures for every line on stdin, until it ends."""

from __future__ import annotations

import json
import sys

from remote_agent.metrics.nvml import NvmlReader


def answer_requests() -> int:
    try:
        import pynvml
    except ImportError as error:
        return _answer_always({"gpu_error": "this agent has no NVML bindings: %s" % error})
    reader = NvmlReader(pynvml)
    for _ in sys.stdin:
        _answer(reader.read())
    return 0


def _answer_always(answer: "dict[str, object]") -> int:
    for _ in sys.stdin:
        _answer(answer)
    return 0


def _answer(answer: "dict[str, object]") -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
