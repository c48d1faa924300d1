"""A captured log that a user points at: a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from provisioner.doctor.finding import Finding
from provisioner.doctor.scan import scan_stream
from provisioner.errors import UsageError

STANDARD_INPUT = "-"


def read(path: str) -> tuple[str, tuple[Finding, ...]]:
    """What the log is called, and every known failure in it, worst first. Raises UsageError where
    it cannot be read."""
    if path == STANDARD_INPUT:
        return "standard input", scan_stream(sys.stdin.buffer, "standard input")
    try:
        with Path(path).open("rb") as stream:
            return path, scan_stream(stream, Path(path).name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"--log {path}: {reason}", remedy="the path of a text file, or - for standard input"
        ) from error
