"""What a verification depends on, read by the real script from stand-ins of the host's programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.facts import Output
from provisioner.facts.proof import RUNTIME_PROGRAMS, SCRIPT, ProofFacts, parse

LIMITED = 'limited() { "$@"; }\n'
NVIDIA_SMI = """#!/bin/sh
case $* in
  -L) cat "$0.list" ;;
  *) cat "$0.modes" ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in RUNTIME_PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "nvidia-smi.list").write_text("GPU 0: H100 (UUID: GPU-1111)\n")
    (tmp_path / "nvidia-smi.modes").write_text("GPU-1111, Disabled\n")
    return tmp_path


def read(programs: Path) -> ProofFacts:
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", LIMITED + SCRIPT], env={"PATH": path}, capture_output=True, timeout=30
    )
    return parse(Output(done.stdout.decode(), done.returncode))


def _upgrade(name: str) -> Callable[[Path], object]:
    return lambda programs: (programs / name).write_text("#!/bin/sh\n# newer\n")


def _enable_mig(programs: Path) -> None:
    (programs / "nvidia-smi.modes").write_text("GPU-1111, Enabled\n")


def _make_instance(programs: Path) -> None:
    (programs / "nvidia-smi.list").write_text(
        "GPU 0: H100 (UUID: GPU-1111)\n  MIG 1g.10gb     Device  0: (UUID: MIG-2222)\n"
    )


def _lose_program(programs: Path) -> None:
    (programs / "nvidia-container-runtime-hook").unlink()


CHANGES = {
    **{f"another {name}": _upgrade(name) for name in RUNTIME_PROGRAMS},
    "MIG switched on": _enable_mig,
    "another MIG instance": _make_instance,
    "a program that is gone": _lose_program,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_shows(programs: Path, name: str) -> None:
    before = read(programs)
    assert before == read(programs)
    CHANGES[name](programs)
    after = read(programs)
    assert (before.runtime_files, before.mig) != (after.runtime_files, after.mig)


def test_the_version_of_control_groups_shows(programs: Path) -> None:
    assert "cgroup " in read(programs).runtime_files
