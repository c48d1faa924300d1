"""Red Hat Enterprise Linux and the distributions that are built from its sources."""

from __future__ import annotations

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.facts import OS, PACKAGES, Facts
from provisioner.facts.os import OsFacts
from provisioner.platforms.dnf import DnfPlatform, dnf, no_docker_of_its_own
from provisioner.traces import Trace

IDS = {"rhel": "RHEL", "rocky": "Rocky Linux", "almalinux": "AlmaLinux", "ol": "Oracle Linux"}
MAJORS = ("8", "9", "10")
EPEL = ("epel-release", "oracle-epel-release-el8", "oracle-epel-release-el9")


class Rhel(DnfPlatform):
    """NVIDIA's driver installation guide lists all four, releases 8 to 10; CentOS Stream is not
    on its list."""

    name = "rhel"
    usual_docker = "vendor"

    @property
    def releases(self) -> tuple[str, ...]:
        return tuple(f"{id_} {major}" for id_ in IDS for major in MAJORS)

    def codename(self, os: OsFacts) -> str | None:
        known = os.id in IDS and _major(os) in MAJORS
        return f"rhel{_major(os)}" if known else None

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        if source != "vendor":
            raise no_docker_of_its_own(IDS[os.id])
        return super().docker_packages(os, source)

    def header_packages(self, kernel_release: str, os: OsFacts) -> tuple[str, ...]:
        """Oracle's own kernel (UEK) and the 64 KiB page kernel of Arm name theirs differently."""
        if "uek" in kernel_release:
            return (f"kernel-uek-devel-{kernel_release}",)
        release, plus, variant = kernel_release.partition("+")
        return (f"kernel-{variant}-devel-{release}" if plus else f"kernel-devel-{release}",)

    def has_streams(self, os: OsFacts) -> bool:
        return _major(os) in ("8", "9")

    def driver_prerequisites(self, facts: Facts, host: Host) -> tuple[Action, ...]:
        """dkms is in EPEL, and what that needs in the optional repository of the distribution."""
        return (*_optional_repository(facts[OS]), *self._epel(facts, host))

    def _epel(self, facts: Facts, host: Host) -> tuple[Action, ...]:
        if any(name in facts[PACKAGES].versions for name in EPEL):
            return ()
        return self.source_actions(self.vendor_source("epel", facts[OS], host), facts)


def _major(os: OsFacts) -> str:
    return os.version.partition(".")[0]


def _optional_repository(os: OsFacts) -> tuple[Action, ...]:
    """Names: NVIDIA driver installation guide, RHEL; EPEL's getting started. It may be there under
    another name (a cloud's own mirror) or not be needed: then the installation tells."""
    major = _major(os)
    words: tuple[str, ...] = (
        "config-manager",
        "--set-enabled",
        "crb" if major != "8" else "powertools",
    )
    if os.id == "ol":
        words = (*words[:2], f"ol{major}_codeready_builder")
    if os.id == "rhel":
        words = (*words[:2], f"codeready-builder-for-rhel-{major}-{os.architecture}-rpms")
    enable = Run(dnf(*words), may_fail=True, traces=(Trace("command", " ".join(("dnf", *words))),))
    return (enable,)
