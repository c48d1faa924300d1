"""A captured log of any size and content as blocks of numbered lines, in bounded memory."""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

CHUNK = 65_536
OVERLAP = 2_048
"""Longer than any phrase with its gaps: in a line that is cut, no message is lost."""
BEFORE, AFTER = 120, 240
"""How much of a long line is shown around a message, in characters."""

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Block:
    """Whole lines, or a part of a very long one; ``first`` is the number of its first line."""

    text: str
    first: int = 1

    @cached_property
    def lowered(self) -> str:
        """The text in lower case, every character in its place; only ASCII counts."""
        return self.text.encode("ascii", "replace").lower().decode("ascii")

    @cached_property
    def _line_ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.text)]

    def line_number(self, position: int) -> int:
        return self.first + bisect_left(self._line_ends, position)

    def line_at(self, position: int) -> str:
        """The line, or what of it is near."""
        return self.excerpt(position, position, CHUNK, CHUNK)

    def excerpt(self, start: int, end: int, before: int = BEFORE, after: int = AFTER) -> str:
        """What stands in the same line around a message; the states of a progress bar are lines."""
        left = re.split(r"[\r\n]", self.text[max(0, start - before) : start])[-1]
        right = re.split(r"[\r\n]", self.text[end : end + after], maxsplit=1)[0]
        return f"{left}{self.text[start:end]}{right}".strip()


def blocks(stream: BinaryIO) -> Iterator[Block]:
    """The whole stream; colours are removed, undecodable bytes become U+FFFD."""
    number, rest = 1, ""
    for text in _decoded(stream):
        whole, newline, rest = (rest + text).rpartition("\n")
        if newline:
            yield _block(whole, number)
            number += whole.count("\n") + 1
        while len(rest) > CHUNK:
            yield _block(rest[:CHUNK], number)
            rest = rest[CHUNK - OVERLAP :]
    yield _block(rest, number)


def _decoded(stream: BinaryIO) -> Iterator[str]:
    chunk = stream.read(CHUNK)
    encoding = next((name for mark, name in BOMS if chunk.startswith(mark)), "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while chunk:
        yield decoder.decode(chunk)
        chunk = stream.read(CHUNK)
    yield decoder.decode(b"", True)


def _block(text: str, number: int) -> Block:
    return Block(ANSI.sub("", text) if "\x1b" in text else text, number)
