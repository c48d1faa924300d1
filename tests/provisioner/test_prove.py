"""The proving script with a made-up Docker: what it leaves behind when nobody reads it any more."""

from __future__ import annotations

import os
import signal
import subprocess
from importlib import resources
from pathlib import Path

import pytest

SCRIPT = resources.files("provisioner.verification").joinpath("prove.sh").read_text()
DOCKER = r"""#!/bin/sh
echo "$@" >> "$LOG"
case $1 in
  import) cat > /dev/null; echo sha256:feed ;;
  run)
    while [ "$1" != --cidfile ]; do shift; done
    echo c0ffee > "$2"
    echo "== listed"
    read -r _
    echo "== listed again"
    echo "== done" ;;
esac
"""


@pytest.fixture
def proving(tmp_path: Path) -> subprocess.Popen[bytes]:
    for name in ("bin", "scratch"):
        (tmp_path / name).mkdir()
    program = tmp_path / "bin/docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    return subprocess.Popen(
        ["sh", "-c", SCRIPT, "sh", "0", "0", "0", "0"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path / "scratch"),
            "LOG": str(tmp_path / "log"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    )


def left_behind(tmp_path: Path) -> tuple[list[Path], list[str]]:
    """What is left in the scratch directory, and what Docker was asked last."""
    return list((tmp_path / "scratch").iterdir()), (tmp_path / "log").read_text().splitlines()[-2:]


def test_a_proof_that_is_read_to_its_end(proving: subprocess.Popen[bytes], tmp_path: Path) -> None:
    out, _ = proving.communicate(timeout=30)
    assert out.decode().split("\n") == ["== listed", "== listed again", "== done", ""]
    assert proving.returncode == 0
    left, (_, last) = left_behind(tmp_path)
    assert (left, last) == ([], "image rm -f sha256:feed")


def test_a_reader_that_goes_away_leaves_no_container_image_or_file(
    proving: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert proving.stdout is not None
    proving.stdout.close()
    proving.wait(timeout=30)
    assert left_behind(tmp_path) == ([], ["rm -f c0ffee", "image rm -f sha256:feed"])
