"""What the platforms do, done by the real dnf and rpm (as Debian packages them).

The packages are stand-ins and the systems only say that they are Rocky Linux: SIMULATED.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from rpm_host import SERVER, RpmHost, rpm_host
from situations import facts_of

from inventory import Host
from inventory.model import Mirrors
from provisioner.errors import CommandFailed, StepFailed
from provisioner.facts import ALL_FACTS, GPU, OS, SOURCES, Facts, gather
from provisioner.hardware import DriverChoice
from provisioner.plan import check
from provisioner.steps import Blocked, Change, Outcome
from provisioner.steps.driver import Driver

pytestmark = pytest.mark.e2e

ROCKY = """\
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="{version}"
PRETTY_NAME="Rocky Linux {version} (SIMULATED)"
PLATFORM_ID="platform:el{major}"
"""
OPEN = DriverChoice("580", "open", "PCI 0x2330 hopper")
PROPRIETARY = DriverChoice("580", "proprietary", "PCI 0x1db1 volta")
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
OLD, NEW = (dict.fromkeys(TOOLKIT, version) for version in ("1.17.4-1", "1.20.0-1"))
NEWEST_580 = "3:580.173.02-1.el9"
SLOW_INSTALL = "touch /srv/slow; exec dnf -y install nvidia-open > /tmp/dnf.log 2>&1"


@pytest.fixture
def rocky9() -> Iterator[RpmHost]:
    """With EPEL, as its users have it."""
    with rpm_host(ROCKY.format(version="9.6", major=9)) as host:
        host.apply(host.platform.install("epel-release"))
        yield host


@pytest.fixture
def rocky10() -> Iterator[RpmHost]:
    with rpm_host(ROCKY.format(version="10.1", major=10)) as host:
        host.apply(host.platform.install("epel-release"))
        yield host


def install_driver(host: RpmHost, wanted: Host, choice: DriverChoice = OPEN) -> None:
    host.apply(host.platform.driver_actions(choice, host.facts(), wanted))


def add_source(host: RpmHost, name: str, wanted: Host) -> None:
    facts = host.facts()
    source = host.platform.vendor_source(name, facts[OS], wanted)
    host.apply(host.platform.source_actions(source, facts))


def test_the_driver_of_a_branch_from_its_module_stream(rocky9: RpmHost) -> None:
    wanted = rocky9.inventory(nvidia="nvidia-streams")
    install_driver(rocky9, wanted)
    packages = rocky9.packages
    assert packages.manager == "dnf"
    assert packages.versions["nvidia-open"] == NEWEST_580
    assert packages.versions["kmod-nvidia-open-dkms"] == NEWEST_580
    assert packages.held == ("nvidia-open",)
    assert not packages.interrupted
    assert "580-open [e]" in rocky9.sh("dnf module list --enabled")
    rocky9.sh("dnf -y upgrade")
    assert rocky9.packages.versions["nvidia-driver"] == NEWEST_580


def test_old_gpus_get_the_proprietary_stream_also_after_the_other(rocky9: RpmHost) -> None:
    wanted = rocky9.inventory(nvidia="nvidia-streams")
    install_driver(rocky9, wanted)
    rocky9.apply(rocky9.platform.remove("nvidia-open", "kmod-nvidia-open-dkms"))
    install_driver(rocky9, wanted, PROPRIETARY)
    versions = rocky9.packages.versions
    assert versions["cuda-drivers"] == "580.173.02-1.el9"
    assert "nvidia-open" not in versions
    assert "580-dkms [e]" in rocky9.sh("dnf module list --enabled")


def test_a_second_look_finds_nothing_to_do_and_rpm_trusts_the_pinned_key(rocky9: RpmHost) -> None:
    wanted = rocky9.inventory(nvidia="nvidia-streams")
    install_driver(rocky9, wanted)
    facts = rocky9.facts()
    source = rocky9.platform.vendor_source("nvidia", facts[OS], wanted)
    assert rocky9.platform.source_actions(source, facts) == ()
    keys = rocky9.sh("rpm -q gpg-pubkey --qf '%{VERSION}\\n'").split()
    assert source.key_fingerprint[-8:].lower() in {key[-8:] for key in keys}


def test_a_key_that_is_not_the_pinned_one_is_never_stored(rocky9: RpmHost) -> None:
    wanted = rocky9.inventory(nvidia="nvidia-streams")
    swapped = replace(wanted.mirrors.nvidia, key_url=f"{SERVER}/stranger.asc")
    wanted = replace(wanted, mirrors=Mirrors(nvidia=swapped))
    with pytest.raises(StepFailed, match="holds another key"):
        install_driver(rocky9, wanted)
    sources = rocky9.facts()[SOURCES]
    assert (sources.files, sources.keys) == ({}, {})


def test_packages_that_another_key_signed_are_refused(rocky10: RpmHost) -> None:
    with pytest.raises(CommandFailed, match=r"(?i)gpg|key"):
        install_driver(rocky10, rocky10.inventory(nvidia="forged-nvidia"))
    assert "nvidia-open" not in rocky10.packages.versions


def test_metadata_that_another_key_signed_is_refused(rocky9: RpmHost) -> None:
    """The toolkit's packages carry no signatures of their own."""
    add_source(rocky9, "container_toolkit", rocky9.inventory(container_toolkit="forged-toolkit"))
    with pytest.raises(CommandFailed, match=r"(?i)gpg|signature|repomd"):
        rocky9.apply(rocky9.platform.install(*TOOLKIT))
    assert not set(TOOLKIT) & set(rocky9.packages.versions)


def test_the_toolkit_is_held_and_still_moved_to_the_very_version_asked_for(rocky9: RpmHost) -> None:
    platform = rocky9.platform
    add_source(rocky9, "container_toolkit", rocky9.inventory(container_toolkit="toolkit"))
    rocky9.apply((*platform.install_versions(OLD), *platform.hold(*TOOLKIT)))
    rocky9.sh("dnf -y upgrade")
    packages = rocky9.packages
    assert {name: packages.versions[name] for name in TOOLKIT} == OLD
    assert set(packages.held) == set(TOOLKIT)
    for wanted in (NEW, OLD):
        rocky9.apply((*platform.install_versions(wanted), *platform.hold(*TOOLKIT)))
        assert {name: rocky9.packages.versions[name] for name in TOOLKIT} == wanted
    rocky9.apply(platform.release(*TOOLKIT))
    assert rocky9.packages.held == ()


def test_without_streams_a_branch_is_locked(rocky10: RpmHost) -> None:
    wanted = rocky10.inventory(nvidia="nvidia-flat")
    install_driver(rocky10, wanted)
    assert rocky10.packages.versions["nvidia-open"] == NEWEST_580
    assert "nvidia-driver" in rocky10.packages.held
    rocky10.sh("dnf -y upgrade")
    assert rocky10.packages.versions["nvidia-driver"] == NEWEST_580
    install_driver(rocky10, wanted, replace(OPEN, branch="595"))
    assert rocky10.packages.versions["nvidia-driver"] == "3:595.91.07-1.el9"


def test_a_branch_that_is_not_there_installs_no_other(rocky10: RpmHost) -> None:
    wanted = rocky10.inventory(nvidia="nvidia-flat")
    with pytest.raises(CommandFailed, match="nvidia-open-610"):
        install_driver(rocky10, wanted, replace(OPEN, branch="610"))
    assert "nvidia-open" not in rocky10.packages.versions


def test_docker_and_headers(rocky9: RpmHost) -> None:
    platform, os = rocky9.platform, rocky9.facts()[OS]
    add_source(rocky9, "docker", rocky9.inventory(docker="docker"))
    rocky9.apply(platform.install(*platform.docker_packages(os, "vendor")))
    headers = platform.header_packages("5.14.0-570.12.1.el9_6.noarch", os)
    rocky9.apply(platform.install(*headers))
    versions = rocky9.packages.versions
    assert versions["docker-ce"] == "3:29.7.2-1.el9"
    assert set(headers) < set(versions)
    rocky9.apply(platform.remove("docker-ce"))
    assert "docker-ce" not in rocky9.packages.versions


def test_a_killed_dnf_is_seen_at_work_then_as_interrupted_and_repaired(rocky9: RpmHost) -> None:
    wanted = rocky9.inventory(nvidia="nvidia-streams")
    actions = rocky9.platform.driver_actions(OPEN, rocky9.facts(), wanted)
    rocky9.apply(actions[:-3])
    rocky9.sh('nohup sh -c "$1" < /dev/null > /dev/null 2>&1 &', SLOW_INSTALL)
    _until(lambda: "nvidia-driver" in rocky9.packages.versions)
    at_work = rocky9.packages
    assert (at_work.busy, at_work.interrupted) == (True, False)
    assert at_work.lock_holder is not None
    pid, name = at_work.lock_holder.split()[1:]
    assert name == "dnf"
    rocky9.sh(
        'kill -STOP "$1"; pkill -KILL -P "$1"; kill -KILL "$1"; pkill -KILL sleep; rm /srv/slow',
        pid,
    )
    cut_short = rocky9.packages
    assert (cut_short.busy, cut_short.interrupted) == (False, True)
    assert cut_short.broken == ("nvidia-driver",)
    assert "nvidia-driver" not in rocky9.sh("cat /srv/configured").split()

    rocky9.apply(rocky9.platform.repair(rocky9.facts()))
    assert rocky9.platform.repair(rocky9.facts()) == ()
    assert "nvidia-driver" in rocky9.sh("cat /srv/configured").split()
    install_driver(rocky9, wanted)
    assert rocky9.packages.versions["nvidia-open"] == NEWEST_580


def test_the_driver_step_goes_as_far_as_a_container_can(rocky9: RpmHost) -> None:
    """One H100 is SIMULATED; that there is no kernel of its own is not."""
    wanted = rocky9.inventory(nvidia="nvidia-streams")
    gpu = facts_of({"from": "fresh"}, wanted)[GPU]

    def look() -> Outcome:
        found = gather(rocky9, ALL_FACTS)
        return check(Driver(), Facts({**dict(found.items()), GPU.name: gpu}), wanted)

    fresh = look()
    assert isinstance(fresh, Change)
    assert "580, open modules (PCI 0x2330 hopper), source vendor" in fresh.reason
    rocky9.apply(fresh.actions)
    installed = look()
    assert isinstance(installed, Blocked)
    assert f"nvidia-open {NEWEST_580}" in installed.reason
    assert "container" in installed.reason


def test_foreign_sources_are_seen_unless_switched_off(rocky9: RpmHost) -> None:
    write = 'printf "[a]\\nbaseurl=https://%s/\\nenabled=$3\\n" "$2" > "/etc/yum.repos.d/$1.repo"'
    cuda = "developer.download.nvidia.com/compute/cuda/repos/rhel9/x86_64"
    rocky9.sh(write, "cuda-rhel9", cuda, "1")
    rocky9.sh(write, "nvidia-container-toolkit", "nvidia.github.io/libnvidia-container/stable", "1")
    rocky9.sh(write, "off", cuda, "0")
    assert rocky9.facts()[SOURCES].leftovers == (
        "/etc/yum.repos.d/cuda-rhel9.repo",
        "/etc/yum.repos.d/nvidia-container-toolkit.repo",
    )


def _until(happens: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)
