"""A job's log for a terminal: colours stay, every other control character is made visible.

A log may come from a program or a host that nobody trusts. Written as it is, it could set the
clipboard or the window's title, or answer for the person at the keyboard.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

from provisioner.text import UNSAFE

PLAIN = re.compile(rb"[\t\n\r -~]*\Z")
"""Nothing but printable ASCII, tabs and line ends: by far most logs."""
COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
"""SGR (ECMA-48, section 8.3.117)."""
PARTIAL_COLOUR = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")
KEPT = "\t\n\r"
"""A carriage return draws a progress bar."""
RESET = b"\x1b[0m"


class VisibleLog:
    """Feed it the log's bytes; it gives the bytes for the terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""
        self._undecoded = False
        self._coloured = False

    def feed(self, data: bytes) -> bytes:
        """What can be shown now; a colour or character that may go on is held back."""
        if not self._held and not self._undecoded and PLAIN.match(data):
            return data
        text = self._held + self._decoder.decode(data)
        self._undecoded = bool(self._decoder.getstate()[0])
        partial = PARTIAL_COLOUR.search(text)
        self._held = partial.group() if partial else ""
        return self._shown(text[: partial.start()] if partial else text)

    def finish(self) -> bytes:
        """The rest, and the terminal's own colours again."""
        text, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return self._shown(text) + (RESET if self._coloured else b"")

    def _shown(self, text: str) -> bytes:
        parts, position = [], 0
        for colour in COLOUR.finditer(text):
            parts += [_visible(text[position : colour.start()]), colour.group()]
            position = colour.end()
            self._coloured = True
        parts.append(_visible(text[position:]))
        return "".join(parts).encode("utf-8", "backslashreplace")


def _visible(text: str) -> str:
    return "".join(map(_character, text))


def _character(character: str) -> str:
    if character in KEPT or unicodedata.category(character) not in UNSAFE:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the pictures of control characters
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"<U+{code:04X}>"
