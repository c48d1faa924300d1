"""What the platforms do, done by the real zypper and rpm (as Debian packages them).

The packages are stand-ins and the system only says that it is openSUSE Leap: SIMULATED.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from rpm_host import SERVER, RpmHost, rpm_host

from inventory import Host
from inventory.model import Mirrors
from provisioner.errors import CommandFailed, StepFailed
from provisioner.facts import OS, SOURCES
from provisioner.hardware import DriverChoice

pytestmark = pytest.mark.e2e

LEAP = """\
ID="opensuse-leap"
ID_LIKE="suse opensuse"
VERSION_ID="15.6"
PRETTY_NAME="openSUSE Leap 15.6 (SIMULATED)"
"""
OPEN = DriverChoice("580", "open", "PCI 0x2330 hopper")
NEWEST_580 = "3:580.173.02-1.el9"
TOOLKIT = ("nvidia-container-toolkit", "nvidia-container-toolkit-base")


@pytest.fixture
def leap() -> Iterator[RpmHost]:
    with rpm_host(LEAP) as host:
        yield host


def install_driver(host: RpmHost, wanted: Host, choice: DriverChoice = OPEN) -> None:
    host.apply(host.platform.driver_actions(choice, host.facts(), wanted))


def add_source(host: RpmHost, name: str, wanted: Host) -> None:
    facts = host.facts()
    source = host.platform.vendor_source(name, facts[OS], wanted)
    host.apply(host.platform.source_actions(source, facts))


def test_the_newest_driver_of_a_branch_is_installed_and_stays(leap: RpmHost) -> None:
    wanted = leap.inventory(nvidia="nvidia-flat")
    install_driver(leap, wanted)
    packages = leap.packages
    assert packages.manager == "zypper"
    assert packages.versions["nvidia-open"] == NEWEST_580
    assert packages.held == ("nvidia-open",)
    leap.sh("zypper --non-interactive update")
    assert leap.packages.versions["nvidia-driver"] == NEWEST_580
    facts = leap.facts()
    source = leap.platform.vendor_source("nvidia", facts[OS], wanted)
    assert leap.platform.source_actions(source, facts) == ()


def test_a_branch_that_is_not_there_installs_no_other(leap: RpmHost) -> None:
    wanted = leap.inventory(nvidia="nvidia-flat")
    with pytest.raises(CommandFailed, match="no nvidia-open of branch 610"):
        install_driver(leap, wanted, replace(OPEN, branch="610"))
    assert "nvidia-open" not in leap.packages.versions


def test_a_key_that_is_not_the_pinned_one_is_never_trusted(leap: RpmHost) -> None:
    wanted = leap.inventory(nvidia="nvidia-flat")
    swapped = replace(wanted.mirrors.nvidia, key_url=f"{SERVER}/stranger.asc")
    before = leap.sh("rpm -q gpg-pubkey")
    with pytest.raises(StepFailed, match="holds another key"):
        install_driver(leap, replace(wanted, mirrors=Mirrors(nvidia=swapped)))
    assert leap.facts()[SOURCES].keys == {}
    assert leap.sh("rpm -q gpg-pubkey") == before


@pytest.mark.parametrize(
    ("name", "forged", "package"),
    [
        ("nvidia", "forged-nvidia", "nvidia-open"),
        ("container_toolkit", "forged-toolkit", "libnvidia-container1"),
    ],
)
def test_what_another_key_signed_is_refused(
    leap: RpmHost, name: str, forged: str, package: str
) -> None:
    add_source(leap, name, leap.inventory(**{name: forged}))
    with pytest.raises(CommandFailed):
        leap.apply(leap.platform.install(package))
    assert package not in leap.packages.versions


def test_the_toolkit_is_held_and_still_moved_to_the_very_version_asked_for(leap: RpmHost) -> None:
    platform = leap.platform
    add_source(leap, "container_toolkit", leap.inventory(container_toolkit="toolkit"))
    for version in ("1.17.4-1", "1.20.0-1", "1.17.4-1"):
        wanted = dict.fromkeys(TOOLKIT, version)
        leap.apply((*platform.install_versions(wanted), *platform.hold(*TOOLKIT)))
        leap.sh("zypper --non-interactive update")
        packages = leap.packages
        assert {name: packages.versions[name] for name in TOOLKIT} == wanted
        assert set(packages.held) == set(TOOLKIT)
    leap.apply(platform.remove(*TOOLKIT))
    packages = leap.packages
    assert not set(TOOLKIT) & set(packages.versions)
    assert packages.held == ()


def test_docker_is_the_distributions_and_headers_are_the_running_kernels(leap: RpmHost) -> None:
    platform, os = leap.platform, leap.facts()[OS]
    leap.apply(platform.install(*platform.docker_packages(os, "distro")))
    leap.apply(platform.install(*platform.header_packages("6.4.0-150600.23.53-default", os)))
    versions = leap.packages.versions
    assert versions["docker"] == "28.3.3-1"
    assert versions["kernel-default-devel"] == "6.4.0-150600.23.53.1"


def test_a_half_upgraded_package_is_repaired(leap: RpmHost) -> None:
    """Two versions of one package are what a killed upgrade leaves."""
    add_source(leap, "nvidia", leap.inventory(nvidia="nvidia-flat"))
    leap.apply(leap.platform.install_versions({"nvidia-driver": "3:580.65.06-1.el9"}))
    leap.sh(
        "cd /srv/www/nvidia-flat && rpm -i --justdb --nodeps --force --noscripts "
        "nvidia-driver-580.173.02-1.el9.noarch.rpm"
    )
    assert leap.packages.broken == ("nvidia-driver",)
    leap.apply(leap.platform.repair(leap.facts()))
    assert leap.packages.broken == ()
    assert leap.platform.repair(leap.facts()) == ()
