"""What can be wrong with an inventory."""

from __future__ import annotations

from pathlib import Path


class InventoryError(Exception):
    """Names the file, line and key, what was expected, and what to try. Exit code 2."""

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        line: int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.line = line
        self.remedy = remedy
        self.host: str | None = None

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}:{self.line or 1}: "
        remedy = f"\n  try: {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{remedy}"
