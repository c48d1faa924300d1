"""The program as a user runs it, and practice hosts as they look from outside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROGRAM = (sys.executable, "-c", "import tasks; tasks.main()")


@dataclass(frozen=True)
class Done:
    """How one command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass
class Rigup:
    """The program as a user runs it, in a home of its own."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if key != "RIGUP_INVENTORY"}
        return {**clean, "RIGUP_HOME": str(self.home), **self.environment}

    def __call__(self, *words: str, timeout: float = 600, **options: Any) -> Done:
        started = time.monotonic()
        done = subprocess.run(
            [*PROGRAM, *words],
            env=self.env(),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            check=False,
            **options,
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def ok(self, *words: str, **options: Any) -> Done:
        done = self(*words, **options)
        assert done.code == 0, done.said
        return done

    def start(self, *words: str, stdout: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*PROGRAM, *words], env=self.env(), stdin=subprocess.DEVNULL, stdout=stdout
        )

    def inventory(self) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.home / "lab" / "hosts.yaml").read_text())
        return loaded

    def with_hosts(self, directory: Path, change: Callable[[dict[str, Any]], None]) -> Path:
        """A copy of the lab's inventory, changed."""
        data = self.inventory()
        change(data)
        path = directory / "hosts.yaml"
        path.write_text(yaml.safe_dump(data))
        return path


@dataclass(frozen=True)
class LabHostShell:
    """A practice host seen from outside rigup, for asserting what is really there."""

    container: str

    def run(self, script: str, *, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "exec", "-i", self.container, "bash", "-c", script],
            capture_output=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="surrogateescape")

    def docker(self, verb: str) -> None:
        subprocess.run(["docker", verb, self.container], check=True, capture_output=True)


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
