"""The workspace and data directories of the inventory on a real host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e


def test_directories_are_made_and_never_taken_over(
    provisioned: Rigup, shell: Callable[[str], LabHostShell], tmp_path: Path
) -> None:
    def with_directories(data: dict) -> None:  # type: ignore[type-arg]
        wanted = {"workspace": "/srv/rigup-test/work", "data_directories": ["/srv/rigup-test/own"]}
        data["hosts"]["lab01"].update(wanted)

    here = shell("lab01")
    inventory = ("--inventory", str(provisioned.with_hosts(tmp_path, with_directories)))
    here.run("rm -rf /srv/rigup-test; mkdir -p /srv/rigup-test/own; touch /srv/rigup-test/own/file")
    words = ("provision", "--host", "lab01", *inventory)
    try:
        refused = provisioned(*words)
        assert refused.code == 3, refused.said
        assert "/srv/rigup-test/own belongs to root, is not empty" in refused.out
        here.run("rm /srv/rigup-test/own/file")
        done = provisioned.ok(*words)
        assert "/srv/rigup-test/work is not there" in done.out
        owners = here.run("stat -c '%U %a' /srv/rigup-test /srv/rigup-test/*").splitlines()
        assert owners == ["root 755", "lab 755", "lab 755"]
        assert "0 change(s)" in provisioned.ok(*words).out
        here.run("echo '/dev/sdz9 /srv/rigup-test/work ext4 defaults 0 0' >> /etc/fstab")
        unmounted = provisioned(*words)
        assert unmounted.code == 3
        assert "nothing is mounted there" in unmounted.out
    finally:
        here.run("sed -i '/rigup-test/d' /etc/fstab; rm -rf /srv/rigup-test")
