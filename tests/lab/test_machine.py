"""What practice hosts inherit from the machine they run on."""

from __future__ import annotations

from provisioner.lab.machine import (
    PUBLIC_ARCHIVE,
    PUBLIC_SECURITY,
    choose_mirror,
    pick_apt_options,
)

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


def test_a_machine_of_another_distribution_falls_back_to_the_public_archive() -> None:
    ubuntu = "deb http://archive.ubuntu.example/ubuntu noble main\n"
    assert choose_mirror([ubuntu, ""]) == (PUBLIC_ARCHIVE, PUBLIC_SECURITY)


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
