"""End-to-end tests never vanish silently: skipped with a reason, or failed on demand; those that
reboot a machine run on request only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
DOCKER_VERSION = '#!/bin/sh\n[ "$1" = version ] && exit {status}\n'


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of its own: this conftest, one end-to-end test, one ordinary test."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    e2e: x\n    gpu: x\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.mark.e2e\ndef test_far(): pass\n\n\ndef test_near(): pass\n"
    )
    (tmp_path / "bin").mkdir()
    return tmp_path


def outcome(suite: Path, *, demanded: bool = False) -> str:
    environ = {**os.environ, "PATH": str(suite / "bin"), "RIGUP_E2E": "1" if demanded else ""}
    words = [sys.executable, "-m", "pytest", "-ra", "-p", "no:asyncio", str(suite)]
    done = subprocess.run(words, capture_output=True, text=True, env=environ, cwd=suite)
    return done.stdout


def add_docker(suite: Path, *, status: int) -> None:
    program = suite / "bin" / "docker"
    program.write_text(DOCKER_VERSION.format(status=status))
    program.chmod(0o755)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="without root the reason is another one")


@as_root
def test_skipped_with_the_reason_without_docker(suite: Path) -> None:
    shown = outcome(suite)
    assert "1 passed, 1 skipped" in shown
    assert "need the docker client on PATH" in shown


@as_root
def test_skipped_with_the_reason_without_an_engine(suite: Path) -> None:
    add_docker(suite, status=1)
    shown = outcome(suite)
    assert "1 passed, 1 skipped" in shown
    assert "need a running Docker engine" in shown


def test_failed_where_it_is_demanded(suite: Path) -> None:
    shown = outcome(suite, demanded=True)
    assert "1 failed, 1 passed" in shown or "1 passed, 1 error" in shown
    assert "RIGUP_E2E=1 demands it" in shown


@as_root
def test_run_where_the_engine_answers(suite: Path) -> None:
    add_docker(suite, status=0)
    assert "2 passed" in outcome(suite, demanded=True)


@pytest.fixture
def suite_with_reboots(suite: Path) -> Path:
    (suite / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    e2e: x\n    gpu: x\n    reboot: x\n"
    )
    (suite / "reboot").mkdir()
    (suite / "reboot" / "test_slow.py").write_text(
        "import pytest\n\n\n@pytest.mark.reboot\ndef test_slow(): pass\n"
    )
    (suite / "test_it.py").write_text("def test_near(): pass\n")
    return suite


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "= 1 passed in"),
        (("-m", "not gpu"), "= 1 passed in"),
        (("-m", "reboot"), "= 1 passed, 1 deselected in"),
        (("reboot/test_slow.py",), "= 1 passed in"),
    ],
    ids=["by default", "another marker", "by marker", "by path"],
)
def test_reboots_happen_on_request_only(
    suite_with_reboots: Path, words: tuple[str, ...], expected: str
) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=suite_with_reboots)
    assert expected in done.stdout
    assert ("test_slow.py" in done.stdout) == ("reboot" in "".join(words))
