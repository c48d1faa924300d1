"""Plain ``ssh lab01-torch`` after ``container.up``."""

from __future__ import annotations

import subprocess

import pytest
from lab_program import Rigup

pytestmark = pytest.mark.e2e

BATCH = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20")


def ssh(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def test_plain_ssh_prints_the_torch_version(with_container: Rigup) -> None:
    done = ssh(*BATCH, "lab01-torch", 'python -c "import torch; print(torch.__version__)"')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.13.0")


def test_the_container_sees_the_simulated_gpus(with_container: Rigup) -> None:
    done = ssh(*BATCH, "lab01-torch", "nvidia-smi -L")
    assert done.stdout.count("SIMULATED") == 2, done.stderr


def test_passwords_are_refused(with_container: Rigup) -> None:
    words = (
        "-o",
        "PubkeyAuthentication=no",
        "-o",
        "PreferredAuthentications=password,keyboard-interactive",
    )
    done = ssh("-v", *BATCH, *words, "lab01-torch", "true")
    assert done.returncode == 255
    assert "Authentications that can continue: publickey\n" in done.stderr.replace("\r", "")


def test_the_port_is_on_the_hosts_loopback_only(with_container: Rigup, shell) -> None:
    listening = shell("lab01").run("ss -ltnH")
    published = [row.split()[3] for row in listening.splitlines()]
    assert all(
        address.startswith(("127.0.0.1:", "[::1]:"))
        for address in published
        if not address.endswith(":22")
    ), published


def test_up_again_changes_nothing_and_list_shows_it(with_container: Rigup) -> None:
    with_container.ok("container.up", "--host", "lab01")
    [row] = [
        row for row in with_container.ok("container.list", "--json").json if row["host"] == "lab01"
    ]
    assert len(row["result"]) == 1
