"""Journal and uninstall with the real dnf and rpm; the packages and the system are SIMULATED."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rpm_host import RpmHost, rpm_host

from provisioner import journal
from provisioner.command import Command
from provisioner.facts import LOGIN, OS, PACKAGES, SOURCES, gather
from provisioner.transport.outliving import outliving
from provisioner.undo.removal import Removal, plan
from provisioner.undo.survey import look

pytestmark = pytest.mark.e2e

ROCKY = """\
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.6"
PRETTY_NAME="Rocky Linux 9.6 (SIMULATED)"
PLATFORM_ID="platform:el9"
"""
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
STATE = "rpm -qa | sort; ls /etc/yum.repos.d; ls /etc/pki/rpm-gpg 2>/dev/null || true"


@pytest.fixture
def rocky() -> Iterator[RpmHost]:
    with rpm_host(ROCKY) as host:
        host.apply(host.platform.install("epel-release"))
        yield host


def taken_back(host: RpmHost) -> Removal:
    entries, complaints = journal.parse(host.sh(f"cat {journal.PATH}"))
    assert complaints == ()
    survey = look(host, [entry.trace for entry in entries], "dnf")
    return plan(entries, survey, host.platform, "/root")


def put_there(host: RpmHost) -> None:
    facts = gather(host, (OS, LOGIN, SOURCES, PACKAGES))
    inventory = host.inventory(container_toolkit="toolkit")
    source = host.platform.vendor_source("container_toolkit", facts[OS], inventory)
    actions = (
        *host.platform.source_actions(source, facts),
        *host.platform.install(*TOOLKIT),
        *host.platform.hold(*TOOLKIT),
    )
    journal.record(host, "toolkit", actions, facts)
    host.apply(actions)


def test_what_was_put_there_is_taken_back_and_nothing_else(rocky: RpmHost) -> None:
    before = rocky.sh(STATE)
    put_there(rocky)
    assert rocky.sh(STATE) != before
    removal = taken_back(rocky)
    assert removal.stays == ()
    rocky.apply(removal.actions)
    assert rocky.sh(STATE) == before
    assert taken_back(rocky) == Removal()


def test_what_somebody_elses_package_needs_stays(rocky: RpmHost) -> None:
    put_there(rocky)
    text = rocky.sh(f"cat {journal.PATH}").splitlines(keepends=True)
    only = [line for line in text if '"package", "name": "libnvidia-container1"' in line]
    rocky.sh(f"cat > {journal.PATH} <<'END'\n{''.join(only)}END")
    removal = taken_back(rocky)
    assert removal.actions == ()
    assert "libnvidia-container1: needed by libnvidia-container-tools" in removal.stays[0]


def test_dnf_goes_on_when_nobody_reads_any_more(rocky: RpmHost) -> None:
    facts = gather(rocky, (OS, SOURCES))
    source = rocky.platform.vendor_source(
        "nvidia", facts[OS], rocky.inventory(nvidia="nvidia-flat")
    )
    rocky.apply(rocky.platform.source_actions(source, facts))
    install = Command.of("dnf", "-y", "install", "nvidia-open")
    read_a_line = (
        "({}) 2>&1 | head -n 3; for i in $(seq 100); do rpm -q nvidia-open && exit; sleep .1; done"
    )
    assert "is not installed" in rocky.sh(read_a_line.format(install.render()) + "; true")
    told = rocky.sh(read_a_line.format(outliving(install).render()))
    assert "nvidia-open-5" in told
