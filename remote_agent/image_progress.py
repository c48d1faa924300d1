"""How far Docker is with an image, told from what its client prints without a terminal. Pure."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence, Set, Tuple

MAX_LINE = 1000
"""Bytes of a line that are looked at."""
CUT = "…"
"""Ends a line that was longer."""
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
PASSWORD = re.compile(r"://[^/@\s]{1,1000}@")


class Lines:
    """Cuts a stream into lines, in little memory whatever it holds."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> List[str]:
        """The lines that became whole."""
        *whole, rest = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
        self._partial = rest[: MAX_LINE + 1]
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
        image = shown(self._reference)
        if not self._known:
            return "pulling %s" % image
        return "pulling %d of %d layers of %s" % (len(self._done), len(self._known), image)


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
        image = shown(self._reference)
        if not self._stages:
            return "building %s" % image
        at = sum(step for step, _ in self._stages.values())
        steps = sum(steps for _, steps in self._stages.values())
        return "building step %d of %d of %s" % (at, steps, image)


class NoProgress:
    """Of a question that Docker answers at once."""

    def take(self, line: str) -> None:
        return


def receiving(reference: str, sender: str, arrived: int, size: int) -> str:
    """``size``: about how many bytes will arrive, 0 where nobody knows. The numbers come first, for
    narrow tables."""
    what = "%s from %s" % (shown(reference), sender)
    if not arrived:
        return "receiving %s" % what
    count = format(arrived // MIB, ",")
    if size:
        count += " of about %s" % format(max(size, arrived) // MIB, ",")
    return "receiving %s MiB of %s" % (count, what)


def unpacking(reference: str) -> str:
    return "unpacking %s" % shown(reference)


def shown(reference: str) -> str:
    return reference if len(reference) <= MAX_NAME else reference[:MAX_NAME] + "…"


def last_words(lines: Sequence[str], urls: Sequence[str] = ()) -> str:
    """The end of what Docker printed, for people: one line, without the passwords of ``urls`` or
    of others."""
    words = [line for line in lines if line][-LAST_LINES:]
    logins = sorted(filter(None, map(_login, urls)), key=len, reverse=True)
    for login in logins:
        words = [_without(login, line) for line in words]
    text = "; ".join(words)
    text = PASSWORD.sub("://***@", text)
    return text if len(text) <= MAX_WORDS else "…" + text[-MAX_WORDS:]


def _without(login: str, line: str) -> str:
    """Also where the line was cut in the middle of it."""
    line = line.replace(login, "***")
    if line.endswith(CUT):
        for length in range(len(login) - 1, 0, -1):
            if line.endswith(login[:length] + CUT):
                return line[: -length - len(CUT)] + "***" + CUT
    return line


def _login(value: str) -> str:
    """The name and password of a URL, also where they hold the URL's own marks."""
    return value.partition("://")[2].rpartition("@")[0]


def _text(line: bytes) -> str:
    is_whole = len(line) <= MAX_LINE
    text = line[: MAX_LINE if is_whole else MAX_LINE - 1].decode("utf-8", "replace").strip()
    clean = "".join(c for c in text if c.isprintable())
    return clean if is_whole else _without_last_url(clean) + CUT


def _without_last_url(text: str) -> str:
    """Of a line that was cut: the mark that ends a password may have been cut off."""
    last = max(text.rfind(" "), 0)
    begin = text.find("://", last)
    return text if begin < 0 else text[:begin] + "://***"
