"""What practice hosts inherit from the machine they run on."""

from __future__ import annotations

import pytest

from provisioner.errors import LabError
from provisioner.lab.machine import choose_mirror, pick_apt_options

DEB822 = """\
Types: deb
# URIs: http://commented.example/debian
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [signed-by=/usr/share/keyrings/x.gpg arch=amd64] http://near.example/debian bookworm main
deb http://near.example/debian-security bookworm-security main
deb-src http://source.example/debian bookworm main
"""
OTHERS = "deb https://packages.example/apt cloud main\ndeb cdrom:[Debian]/ bookworm main\n"


def test_the_machines_own_mirror_is_used() -> None:
    expected = ("http://mirror.example/debian", "https://mirror.example/debian-security")
    assert choose_mirror([OTHERS, DEB822]) == expected


def test_one_line_sources_are_understood_too() -> None:
    expected = ("http://near.example/debian", "http://near.example/debian-security")
    assert choose_mirror([ONE_LINE]) == expected


UBUNTU = "deb http://archive.ubuntu.example/ubuntu noble main\n"


def test_a_machine_of_another_distribution_must_be_told() -> None:
    with pytest.raises(LabError, match="no Debian archive") as raised:
        choose_mirror([UBUNTU, ""])
    assert "RIGUP_DEBIAN_MIRROR=" in str(raised.value.remedy)


def test_a_mirror_that_is_told_wins() -> None:
    expected = ("http://told.example/debian", "http://told.example/debian-security")
    assert choose_mirror([UBUNTU], "http://told.example/debian/") == expected
    assert choose_mirror([DEB822], "http://told.example/debian") == expected


def test_a_security_archive_nobody_names_lies_beside() -> None:
    sources = "deb http://near.example/debian bookworm main\n"
    assert choose_mirror([sources])[1] == "http://near.example/debian-security"


def test_only_the_options_that_reach_the_mirror_travel() -> None:
    dump = (
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::http::Proxy "";\n'
        'Acquire::https::Proxy "http://proxy.example:3128";\n'
        'APT::NeverAutoRemove:: "^linux.*";\n'
        "broken line\n"
    )
    assert pick_apt_options(dump) == {
        "Acquire::Check-Valid-Until": "false",
        "Acquire::https::Proxy": "http://proxy.example:3128",
    }
