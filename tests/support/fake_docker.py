"""A program named docker that answers from files: each verb's output, error and exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROGRAM = """#!/bin/sh
cd {directory} || exit 99
printf '%s\\n' "$*" >>calls
for name in down "$1"; do
  [ -e "$name.code" ] || continue
  cat "$name.err" >&2
  cat "$name.out"
  exit "$(cat "$name.code")"
done
"""
AWAY = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."


class FakeDocker:
    """Put ``bin`` first in PATH. What was not set answers with nothing and 0."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "fake-docker"
        self._directory.mkdir()
        self.bin = directory / "bin"
        self.bin.mkdir()
        program = self.bin / "docker"
        program.write_text(PROGRAM.format(directory=self._directory))
        program.chmod(0o755)

    def answer(self, verb: str, out: str = "", *, err: str = "", code: int = 0) -> None:
        for suffix, text in (("out", out), ("err", err), ("code", str(code))):
            (self._directory / f"{verb}.{suffix}").write_text(text)

    def container(self, labels: dict[str, str] | None = None, **state: Any) -> None:
        told = {"state": state, "labels": {"rigup.log": "direct"} if labels is None else labels}
        self.answer("container", json.dumps(told))

    def engine(self, live_restore: bool) -> None:
        self.answer("info", f'{str(live_restore).lower()} ["name=seccomp"]')

    def gone(self) -> None:
        self.answer("container", err="Error: No such container: rigup-x", code=1)

    def events(self, *events: tuple[str, dict[str, str]]) -> None:
        rows = [
            {
                "Action": action,
                "Actor": {"Attributes": told},
                "timeNano": (1_700_000_000 + at) * 10**9,
            }
            for at, (action, told) in enumerate(events)
        ]
        self.answer("events", "\n".join(map(json.dumps, rows)))

    def away(self, said: str = AWAY) -> None:
        self.answer("down", err=said, code=1)

    def back(self) -> None:
        for path in self._directory.glob("down.*"):
            path.unlink()

    @property
    def calls(self) -> list[list[str]]:
        path = self._directory / "calls"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[str]:
        return [words[0] for words in self.calls]
