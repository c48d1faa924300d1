"""The stand-in packages: NVIDIA's names and dependency shape, and always marked SIMULATED."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest

from provisioner.lab.recipe import packaged_files
from provisioner.lab.vendor.driver import DRIVERS, Driver, driver_packages
from provisioner.lab.vendor.image import all_packages, vendor_recipe
from provisioner.lab.vendor.package import Compiled, Package
from provisioner.lab.vendor.server import bridge_gateway
from provisioner.lab.vendor.toolkit import toolkit_packages

SOURCES = packaged_files("vendor")
PACKAGES = all_packages(SOURCES, "x86_64")


def by_name(packages: tuple[Package, ...]) -> dict[str, Package]:
    return {package.name: package for package in packages}


def test_a_control_file_has_every_field_in_debians_form() -> None:
    package = Package(
        name="nvidia-open",
        version="580.173.02-1",
        repository="cuda",
        summary="driver",
        depends=("a (= 1)", "b | c"),
        conflicts=("d",),
    )
    assert package.control("amd64").splitlines() == [
        "Package: nvidia-open",
        "Version: 580.173.02-1",
        "Architecture: amd64",
        "Maintainer: rigup practice hosts <rigup-lab@localhost>",
        "Depends: a (= 1), b | c",
        "Conflicts: d",
        "Replaces: d",
        "Section: misc",
        "Priority: optional",
        "Description: driver (SIMULATED)",
        " Stand-in for a rigup practice host; not NVIDIA's software.",
    ]


def test_the_builder_learns_what_to_compile_and_what_is_configuration() -> None:
    package = Package(
        name="x",
        version="1",
        repository="cuda",
        summary="x",
        files={"etc/x.conf": b"c", "usr/x": b"d"},
        compiled={"usr/bin/x": Compiled("580/x", "755")},
    )
    tree = package.tree("amd64", b"#!guard")
    assert tree["COMPILED"] == b"580/x usr/bin/x 755\n"
    assert tree["DEBIAN/conffiles"] == b"/etc/x.conf\n"
    assert tree["DEBIAN/preinst"] == b"#!guard"


def test_every_package_refuses_machines_that_are_no_practice_hosts() -> None:
    files = vendor_recipe("tools:1", "x86_64").files
    guards = [data for path, data in files.items() if path.endswith("/DEBIAN/preinst")]
    assert len(guards) == len(PACKAGES)
    assert all(b"/etc/rigup-lab-host" in guard and b"exit 1" in guard for guard in guards)


def test_every_dependency_inside_the_repositories_can_be_met() -> None:
    offered = {(package.name, package.version) for package in PACKAGES}
    names = {name for name, _ in offered} | {"kmod", "python3", "dkms"}
    for package in PACKAGES:
        for alternative in ",".join(package.depends).replace("|", ",").split(","):
            exact = re.fullmatch(r"(\S+) \(>?= (\S+)\)", alternative.strip())
            if exact:
                assert exact.groups() in offered, (package.name, alternative)
            else:
                assert alternative.strip() in names | {""}, (package.name, alternative)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.branch)
def test_a_pin_holds_its_branch_and_covers_every_driver_package(driver: Driver) -> None:
    packages = by_name(driver_packages(driver, SOURCES, "x86_64-linux-gnu"))
    pin = packages[f"nvidia-driver-pinning-{driver.branch}"]
    lines = next(iter(pin.files.values())).decode().splitlines()
    assert lines[1] == f"Pin: version {driver.branch}.*"
    patterns = lines[0].removeprefix("Package: ").split()
    for name in packages:
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_open_and_proprietary_modules_exclude_each_other() -> None:
    packages = by_name(driver_packages(DRIVERS[0], SOURCES, "x86_64-linux-gnu"))
    assert packages["nvidia-kernel-open-dkms"].conflicts == ("nvidia-kernel-dkms",)
    assert any("open" in depends for depends in packages["nvidia-open"].depends)
    assert not any("open" in depends for depends in packages["cuda-drivers"].depends)


def test_only_toolkits_since_1_18_refresh_cdi_by_themselves() -> None:
    def units(version: str) -> list[str]:
        base = by_name(toolkit_packages(version, SOURCES))["nvidia-container-toolkit-base"]
        return [path for path in base.files if "cdi-refresh" in path]

    assert units("1.17.0-1") == []
    assert len(units("1.20.0-1")) == 2


def test_the_bridge_address_is_the_gateway_or_the_subnets_first() -> None:
    config = '[{"IPAM": {"Config": [%s]}}]'
    assert bridge_gateway(config % '{"Subnet": "172.17.0.0/16"}') == "172.17.0.1"
    named = '{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.254"}'
    assert bridge_gateway(config % named) == "10.9.0.254"
