"""What names a guest's disk, and what the disk is made from."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from provisioner.lab.distros import find_distro
from provisioner.lab.guest.image import cache_dir
from provisioner.lab.guest.recipe import guest_recipe
from provisioner.lab.machine import Machine

MACHINE = Machine("http://mirror/debian", "http://mirror/debian-security", {"own.crt": b"CA"})
DEBIAN = find_distro("debian12")
TODAY = date(2026, 11, 21)


def test_a_guest_knows_this_machines_network() -> None:
    files = guest_recipe(DEBIAN, MACHINE, TODAY).files
    sources = files["overlay/etc/apt/sources.list.d/debian.sources"].decode()
    assert "http://mirror/debian-security" in sources
    assert files["overlay/usr/local/share/ca-certificates/own.crt"] == b"CA"


def test_the_gpus_come_as_on_practice_hosts() -> None:
    files = guest_recipe(DEBIAN, MACHINE, TODAY).files
    assert b"SIMULATED" in files["overlay/etc/systemd/system/rigup-lab-gpus.service"]
    assert files["overlay/usr/local/lib/rigup-lab/gpus"].startswith(b"#!/bin/sh")


def test_another_mirror_distro_or_month_is_another_disk() -> None:
    digests = {
        guest_recipe(*varied).digest
        for varied in (
            (DEBIAN, MACHINE, TODAY),
            (find_distro("debian13"), MACHINE, TODAY),
            (DEBIAN, Machine("http://other/debian", MACHINE.security), TODAY),
            (DEBIAN, MACHINE, date(2026, 12, 1)),
        )
    }
    assert len(digests) == 4
    assert (
        guest_recipe(DEBIAN, MACHINE, date(2026, 11, 1)).digest
        == guest_recipe(DEBIAN, MACHINE, TODAY).digest
    )


def test_disks_lie_in_the_users_cache() -> None:
    assert cache_dir({"XDG_CACHE_HOME": "/c"}) == Path("/c/rigup/guests")
    assert cache_dir({}) == Path("~/.cache/rigup/guests").expanduser()
