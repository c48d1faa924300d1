"""Every command over a fleet in which one host falls silent at each step of a connection, with an
honest host beside them: the honest one's result is shown, each silent one gets its error, in time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from silent_server import STAGES, silent_server
from ssh_server import free_port, new_key

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = (sys.executable, "-c", "import tasks; tasks.main()")
SILENT = (*STAGES, "network", "drip")
CONNECTED = tuple(stage for stage in SILENT if stage not in ("banner", "key-exchange", "drip"))
"""Those that tell their host key."""
WITHIN_S = 60.0
"""Far above the limits of the inventory, which add up to less than 15 s, and far below the limit
of 900 s that a command has without them. The machine may be busy."""
LIMITS = {"connect_timeout": 2, "command_timeout": 3}


@dataclass
class Fleet:
    directory: Path

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code, and both streams together."""
        started = time.monotonic()
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
        done = subprocess.run(
            [*PROGRAM, *words],
            env={
                **kept,
                "HOME": str(self.directory),
                "PYTHONPATH": str(ROOT),
                "RIGUP_INVENTORY": str(self.directory / "hosts.yaml"),
            },
            cwd=self.directory / "work",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=WITHIN_S,
            check=False,
        )
        assert "Traceback" not in done.stdout
        assert time.monotonic() - started < WITHIN_S
        return done.returncode, done.stdout


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    (directory / ".rigup").mkdir()
    known = directory / ".rigup" / "known_hosts"
    (directory / "work").mkdir()
    (directory / "work" / "train.py").write_text("print('trained')\n")
    hosts: dict[str, dict[str, object]] = {}
    with contextlib.ExitStack() as running:
        for stage in SILENT:
            place = directory / stage
            place.mkdir()
            server = running.enter_context(silent_server(place, stage))
            server.pin(known)
            hosts[stage] = _entry(server.port, place / "client", LIMITS)
        place = directory / "honest"
        place.mkdir()
        port = running.enter_context(_honest(place, known))
        hosts["honest"] = _entry(port, place / "client", {"python": sys.executable})
        (directory / "hosts.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
        yield Fleet(directory)


def _entry(port: int, key: Path, settings: object) -> dict[str, object]:
    assert isinstance(settings, dict)
    place = {"address": "127.0.0.1", "user": "ann", "port": port, "identity_file": str(key)}
    return {**place, **settings}


@contextlib.contextmanager
def _honest(directory: Path, known: Path) -> Iterator[int]:
    for name in ("host_key", "client"):
        new_key(directory / name)
    port = free_port()
    keys = [str(directory / "host_key"), str(directory / "client.pub")]
    server = subprocess.Popen(
        [sys.executable, "-m", "provisioner.demo.server", str(port), *keys],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "HOME": str(directory)},
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == b"ready"
        kind, text, *_ = (directory / "host_key.pub").read_text().split()
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {kind} {text}\n")
        yield port
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("facts", "--all"), "honest\n"),
        (("doctor", "--all"), "honest"),
        (("jobs",), "no jobs"),
        (("provision", "--all", "--check"), "honest"),
        (("uninstall", "--all", "--check"), "honest"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_fleet_command_shows_the_honest_host_and_names_the_silent_ones(
    fleet: Fleet, words: tuple[str, ...], shown: str
) -> None:
    code, text = fleet(*words)
    assert code in (1, 3), text
    assert shown in text
    for stage in SILENT:
        assert f"{stage}: " in text, stage
    assert "unexpected" not in text


def test_containers_are_listed(fleet: Fleet) -> None:
    """The honest host may or may not have a Docker engine."""
    code, text = fleet("container.list")
    assert code == 1
    for stage in SILENT:
        assert f"{stage}: " in text, stage
    assert "unexpected" not in text


def test_the_keys_of_those_that_tell_them_are_looked_at(fleet: Fleet) -> None:
    code, text = fleet("trust", "--all", "--yes")
    assert code == 1
    for stage in (*CONNECTED, "honest"):
        assert f"{stage}: ssh-ed25519 SHA256:" in text, stage
    for stage in set(SILENT) - set(CONNECTED):
        assert f"{stage}: cannot connect" in text, stage


def test_a_container_is_not_removed_where_nobody_could_look(fleet: Fleet) -> None:
    code, text = fleet("container.down", "--host", ",".join(SILENT), "--yes")
    assert code == 1
    assert "removed" not in text


@pytest.mark.parametrize("stage", ["exec", "output"])
@pytest.mark.parametrize(
    "words",
    [
        ("train", "--script", "train.py"),
        ("logs", "some-job"),
        ("stop", "some-job"),
        ("container.up",),
        ("jupyter",),
        ("tensorboard", "--logdir", "/runs"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_for_one_host_ends(fleet: Fleet, words: tuple[str, ...], stage: str) -> None:
    code, text = fleet(*words, "--host", stage)
    assert code in (1, 2)
    assert f"{stage}: " in text or "no job" in text
    assert "unexpected" not in text
