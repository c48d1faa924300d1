"""What lab.up refuses before it touches anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import ExitCode, UsageError
from provisioner.lab import up


@pytest.mark.parametrize("count", [0, -1, 33])
def test_impossible_host_counts(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match="1 to 32") as caught:
        up(count, home=tmp_path)
    assert caught.value.exit_code == ExitCode.USAGE
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gpus", [-1, 9])
def test_impossible_gpu_counts(tmp_path: Path, gpus: int) -> None:
    with pytest.raises(UsageError, match="0 to 8"):
        up(1, home=tmp_path, gpus=gpus)


def test_unknown_distros_and_models(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gentoo"):
        up(1, home=tmp_path, distros=["gentoo"])
    with pytest.raises(UsageError, match="voodoo"):
        up(1, home=tmp_path, model="voodoo")
    assert not list(tmp_path.iterdir())
