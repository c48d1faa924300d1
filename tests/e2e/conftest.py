"""One lab for all end-to-end tests: a Debian 12 and a Debian 13 host, driven through the CLI.

``RIGUP_TEST_LAB=DIR`` keeps the lab in DIR and reuses it in the next run, and so does
``RIGUP_TEST_SPARE_LAB`` with the second lab, whose hosts are taken apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_program import LabHostShell, Rigup


@pytest.fixture(scope="session")
def ssh_config() -> Iterator[None]:
    """The user's SSH configuration is put back as it was."""
    path = Path("~/.ssh/config").expanduser()
    before = path.read_bytes() if path.exists() else None
    yield
    if before is not None:
        path.write_bytes(before)
    else:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def rigup(tmp_path_factory: pytest.TempPathFactory, ssh_config: None) -> Iterator[Rigup]:
    """The program with a lab of two hosts that are up, not provisioned by this fixture."""
    yield from _lab("RIGUP_TEST_LAB", tmp_path_factory.mktemp("rigup") / "home")


@pytest.fixture(scope="session")
def spare(tmp_path_factory: pytest.TempPathFactory, ssh_config: None) -> Iterator[Rigup]:
    """The program with a second lab, for tests that leave nothing of a host as it was."""
    yield from _lab("RIGUP_TEST_SPARE_LAB", tmp_path_factory.mktemp("spare") / "home")


def _lab(variable: str, home: Path) -> Iterator[Rigup]:
    kept = os.environ.get(variable)
    program = Rigup(Path(kept) if kept else home)
    program.ok("lab.up", "--hosts", "2", "--distro", "debian12,debian13", timeout=1800)
    yield program
    if not kept:
        program("lab.down", timeout=300)


@pytest.fixture(scope="module")
def provisioned(rigup: Rigup) -> Rigup:
    """The lab after ``provision --all``: again for every file, whatever the one before it did."""
    rigup.ok("provision", "--all", timeout=1800)
    return rigup


@pytest.fixture(scope="module")
def with_container(provisioned: Rigup) -> Rigup:
    """The lab with a PyTorch container on lab01."""
    provisioned.ok("container.up", "--host", "lab01", timeout=1800)
    return provisioned


@pytest.fixture
def shell(rigup: Rigup) -> Callable[[str], LabHostShell]:
    """Direct access to a practice host by name."""
    return _shells(rigup)


@pytest.fixture
def spare_shell(spare: Rigup) -> Callable[[str], LabHostShell]:
    return _shells(spare)


def _shells(program: Rigup) -> Callable[[str], LabHostShell]:
    listed = program.ok("lab.status", "--json").json
    containers = {host["name"]: host["container"] for host in listed["hosts"]}
    return lambda name: LabHostShell(containers[name])
