"""A practice guest per test file (a QEMU machine), and what it took, told at the end.

``RIGUP_GUEST_DISTRO`` chooses its system. Never collected unless asked for; see tests/conftest.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from figures import FIGURES, measured, tell
from guest_shell import GuestShell
from lab_program import Rigup

from provisioner.errors import LabError
from provisioner.lab import down
from provisioner.lab.distros import DEFAULT_DISTRO
from provisioner.lab.guest import Guest, up
from provisioner.lab.guest.lifecycle import inventory_of
from provisioner.lab.guest.tools import require


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(FIGURES))


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """Without QEMU and its friends nothing here makes sense; say what to install, once."""
    try:
        require()
    except LabError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def distro(tools: None) -> str:
    return os.environ.get("RIGUP_GUEST_DISTRO", DEFAULT_DISTRO)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("rigup") / "home"
    path.mkdir(mode=0o700)
    yield path
    down(path)


@pytest.fixture(scope="module")
def guest(home: Path, distro: str) -> Iterator[Guest]:
    """Just booted; nothing of Docker's or NVIDIA's on it."""
    with measured(f"{distro}: disk (built or found) and repository server"):
        made = up(home, distro=distro, progress=tell)
    try:
        with measured(f"{made.name}: boot to SSH ({made.accelerator})"):
            made.wait_for_ssh()
        yield made
    finally:
        made.power_off()


@pytest.fixture(scope="module")
def rigup(guest: Guest, home: Path) -> Rigup:
    return Rigup(home, {"RIGUP_INVENTORY": str(inventory_of(home))})


@pytest.fixture(scope="module")
def inside(guest: Guest, home: Path) -> GuestShell:
    return GuestShell(guest.port, home / "lab" / "id_ed25519", home / "known_hosts")
