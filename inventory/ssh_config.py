"""The names that the SSH configuration knows; ssh itself stays the judge of what they mean."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from inventory.values import NAME

DEEPEST_INCLUDE = 16
"""As in OpenSSH (READCONF_MAX_DEPTH in readconf.c)."""

_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)")


def ssh_config_names(path: Path) -> frozenset[str]:
    """Concrete ``Host`` aliases of an SSH configuration and of what it includes.

    Patterns (``*``, ``?``) and negations (``!``) are left out, and so is every name that could
    not be a host's name in the inventory. Each file is read once, so a circle of
    includes ends; files that are missing or unreadable count as empty.
    """
    return frozenset(name for name in _aliases(path, seen=set(), depth=0) if NAME.fullmatch(name))


def _aliases(path: Path, seen: set[str], depth: int) -> Iterator[str]:
    real = os.path.realpath(path)
    if real in seen or depth > DEEPEST_INCLUDE:
        return
    seen.add(real)
    for keyword, arguments in _lines(path):
        if keyword == "host":
            yield from arguments
        elif keyword == "include":
            for included in _included(arguments):
                yield from _aliases(included, seen, depth + 1)


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            yield match[1].lower(), _words(match[2])


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []


def _included(patterns: list[str]) -> Iterator[Path]:
    """Relative patterns are taken from ~/.ssh, as for a user's configuration in ssh_config(5)."""
    for pattern in patterns:
        full = os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(pattern))
        yield from (Path(found) for found in sorted(glob.glob(full)))
