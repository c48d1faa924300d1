"""Practice hosts as containers: waiting for them, naming them."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.errors import LabError
from provisioner.lab.containers import BOOT_TIMEOUT_S, LabHost, owner_of, wait_until_up
from provisioner.lab.docker import Docker

HOST = LabHost("lab01", "debian12", 2201, "running", "rigup-lab-x-lab01")

BOOTING = """\
#!/bin/sh
case "$*" in
  *is-system-running*)
    echo x >> "$0.polls"
    if [ "$(wc -l < "$0.polls")" -lt 3 ]; then echo starting; exit 1; fi
    echo {state} ;;
  *ssh_host*) echo 'ssh-ed25519 AAAA root@lab01'; echo 'ssh-rsa BBBB root@lab01' ;;
esac
"""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def engine(tmp_path: Path, state: str) -> Docker:
    program = tmp_path / "docker"
    program.write_text(BOOTING.replace("{state}", state))
    program.chmod(0o755)
    return Docker(str(program))


@pytest.mark.parametrize("state", ["running", "degraded"])
def test_the_hosts_keys_are_read_once_it_is_up(tmp_path: Path, state: str) -> None:
    clock = Clock()
    keys = wait_until_up(engine(tmp_path, state), HOST, clock=clock, sleep=clock.sleep)
    assert keys == ("ssh-ed25519 AAAA root@lab01", "ssh-rsa BBBB root@lab01")
    assert clock.now > 0


def test_a_host_that_never_comes_up_is_named_with_its_state(tmp_path: Path) -> None:
    clock = Clock()
    docker = engine(tmp_path, "maintenance")
    with pytest.raises(LabError) as caught:
        # Polls are real processes, so let time run faster than they do.
        wait_until_up(docker, HOST, clock=clock, sleep=lambda _: clock.sleep(BOOT_TIMEOUT_S / 8))
    assert caught.value.host == "lab01"
    assert "maintenance" in caught.value.message
    assert "docker logs rigup-lab-x-lab01" in (caught.value.remedy or "")


def test_two_homes_never_own_each_others_containers(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "a") != owner_of(tmp_path / "b")
    assert owner_of(tmp_path / "a") == owner_of(tmp_path / "a" / ".." / "a")
