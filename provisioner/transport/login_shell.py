"""One command line that every login shell understands alike, not only POSIX ones.

The server hands a command line to the user's login shell. ``shlex`` quotes for POSIX shells; fish
reads a backslash inside single quotes, csh ends a quoted text at a line break and replaces ``!``.
"""

from __future__ import annotations

import re

FOREIGN = re.compile(r"[\\\n\r!]")
ENCODED = re.compile(r"[\\\n\r!']")
DECODE = 'eval "$(printf %b "$1")"'


def for_any_shell(line: str) -> str:
    """``line`` itself where all shells read it alike; else a line that makes ``sh`` run it.

    The octal escapes are those of printf's ``%b`` (POSIX.1-2017, XCU printf).
    """
    if not FOREIGN.search(line):
        return line
    encoded = ENCODED.sub(lambda found: f"\\0{ord(found[0]):03o}", line)
    return f"sh -c '{DECODE}' sh '{encoded}'"
