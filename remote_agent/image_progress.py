"""How far Docker is with an image, told from what its client prints without a terminal. Pure."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Set, Tuple

MAX_LINE = 1000
"""Bytes of a line that are looked at."""
MAX_PARTS = 1000
"""Layers or stages that are counted; Docker allows 127 layers."""
MAX_NAME = 120
MAX_WORDS = 400
LAST_LINES = 3
MIB = 1 << 20

LAYER = re.compile(r"([0-9a-f]{6,64}): ([A-Z][a-z]+ [a-z]+(?: [a-z]+)?)")
LAYER_DONE = ("Pull complete", "Already exists")
CLASSIC_STEP = re.compile(r"Step (\d{1,4})/(\d{1,4}) :")
BUILDKIT_STEP = re.compile(r"#\d{1,6} \[([A-Za-z0-9_.-]{0,100}) ?(\d{1,4})/(\d{1,4})\]")
PASSWORD = re.compile(r"://[^/@\s]{1,200}@")


class Lines:
    """Cuts a stream into lines, in little memory whatever it holds."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> List[str]:
        """The lines that became whole."""
        *whole, rest = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        self._partial = rest[:MAX_LINE]
        return [_text(line) for line in whole]

    def rest(self) -> str:
        """What came after the last end of a line."""
        return _text(self._partial)


class PullProgress:
    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._known: Set[str] = set()
        self._done: Set[str] = set()

    def take(self, line: str) -> None:
        match = LAYER.match(line)
        if match is None or len(self._known) >= MAX_PARTS:
            return
        layer, state = match.groups()
        self._known.add(layer)
        if state.startswith(LAYER_DONE):
            self._done.add(layer)

    def __str__(self) -> str:
        said = "pulling %s" % shown(self._reference)
        if not self._known:
            return said
        return "%s: %d of %d layers" % (said, len(self._done), len(self._known))


class BuildProgress:
    """BuildKit counts the steps of each stage for itself, and runs stages at the same time."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._stages: Dict[str, Tuple[int, int]] = {}

    def take(self, line: str) -> None:
        classic, buildkit = CLASSIC_STEP.match(line), BUILDKIT_STEP.match(line)
        if classic is not None:
            self._note("", int(classic.group(1)), int(classic.group(2)))
        elif buildkit is not None:
            stage, step, steps = buildkit.groups()
            self._note(stage, int(step), int(steps))

    def _note(self, stage: str, step: int, steps: int) -> None:
        if len(self._stages) < MAX_PARTS or stage in self._stages:
            self._stages[stage] = max(step, self._stages.get(stage, (0, 0))[0]), steps

    def __str__(self) -> str:
        said = "building %s" % shown(self._reference)
        if not self._stages:
            return said
        at = sum(step for step, _ in self._stages.values())
        return "%s: step %d of %d" % (said, at, sum(steps for _, steps in self._stages.values()))


class NoProgress:
    """Of a question that Docker answers at once."""

    def take(self, line: str) -> None:
        return


def receiving(reference: str, sender: str, arrived: int, size: int) -> str:
    """``size``: about how many bytes will arrive, 0 where nobody knows."""
    said = "receiving %s from %s" % (shown(reference), sender)
    if not arrived:
        return said
    if not size:
        return "%s: %s MiB" % (said, format(arrived // MIB, ","))
    return "%s: %s of about %s MiB" % (
        said,
        format(arrived // MIB, ","),
        format(max(size, arrived) // MIB, ","),
    )


def shown(reference: str) -> str:
    return reference if len(reference) <= MAX_NAME else reference[:MAX_NAME] + "…"


def last_words(lines: Sequence[str], urls: Sequence[str] = ()) -> str:
    """The end of what Docker printed, for people: one line, without the passwords of ``urls`` or
    of others."""
    words = [line for line in lines if line][-LAST_LINES:]
    text = "; ".join(words)
    for login in sorted(filter(None, map(_login, urls)), key=len, reverse=True):
        text = text.replace(login, "***")
    text = PASSWORD.sub("://***@", text)
    return text if len(text) <= MAX_WORDS else "…" + text[-MAX_WORDS:]


def _login(value: str) -> str:
    """The name and password of a URL, also where they hold the URL's own marks."""
    return value.partition("://")[2].rpartition("@")[0]


def _text(line: bytes) -> str:
    text = line[:MAX_LINE].decode("utf-8", "replace").strip()
    return "".join(c for c in text if c.isprintable())
