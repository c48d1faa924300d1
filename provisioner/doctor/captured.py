"""A captured log that a user points at: a file, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from provisioner.doctor.finding import Finding
from provisioner.doctor.scan import scan_stream
from provisioner.errors import UsageError

STANDARD_INPUT = "-"
READERS: Mapping[bytes, str] = {
    b"\x1f\x8b": "zcat",
    b"\xfd7zXZ\0": "xzcat",
    b"\x28\xb5\x2f\xfd": "zstdcat",
    b"BZh": "bzcat",
    b"LPKSHHRH": "journalctl --file",
}
"""First bytes of files that are no text (magic(5)), and what makes text of them."""


def read(path: str) -> tuple[str, tuple[Finding, ...]]:
    """What the log is called, and every known failure in it, worst first. Raises UsageError where
    it cannot be read."""
    if path == STANDARD_INPUT:
        return _scanned(sys.stdin.buffer, "standard input", "standard input")
    try:
        with Path(path).open("rb") as stream:
            return _scanned(stream, path, Path(path).name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"--log {path}: {reason}", remedy="the path of a text file, or - for standard input"
        ) from error


@dataclass
class _Watched:
    """A stream that is refused once its first bytes show that it is no text."""

    stream: BinaryIO
    name: str
    empty: bool = True

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if self.empty and data:
            self.empty = False
            self._refuse_packed(data)
        return data

    def _refuse_packed(self, data: bytes) -> None:
        for magic, reader in READERS.items():
            if data.startswith(magic):
                raise UsageError(
                    f"--log {self.name}: no text, but a file for {reader}",
                    remedy=f"{reader} FILE | invoke doctor --log -",
                )


def _scanned(stream: BinaryIO, told: str, name: str) -> tuple[str, tuple[Finding, ...]]:
    watched = _Watched(stream, told)
    findings = scan_stream(cast(BinaryIO, watched), name)
    return f"{told} (empty)" if watched.empty else told, findings
