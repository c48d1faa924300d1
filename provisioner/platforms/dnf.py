"""The family of dnf: RHEL and its kin, Fedora, Amazon Linux."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from inventory import Host
from provisioner import data
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.errors import BlockedError
from provisioner.facts import OS, PACKAGES, Facts
from provisioner.facts.os import OsFacts
from provisioner.hardware import DriverChoice
from provisioner.platforms.base import VendorSource
from provisioner.platforms.rpm import INSTALL_TIMEOUT_S, RpmPlatform, repository_lines
from provisioner.traces import Trace

AUTHORITIES = PurePosixPath("/etc/pki/ca-trust/source/anchors")
VENDOR_DOCKER = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-buildx-plugin",
    "docker-compose-plugin",
)
STREAM = {"open": "open", "proprietary": "dkms"}
"""``nvidia-driver:580-open`` (driver installation guide 620, table 5), ``nvidia-driver:580-dkms``
(NVIDIA/yum-packaging-nvidia-driver, guide-rhel8)."""


class DnfPlatform(RpmPlatform):
    """``lock_plugin``: the package that gives dnf 4 its ``versionlock``; None where it is built in
    (dnf 5)."""

    repository_directory = PurePosixPath("/etc/yum.repos.d")
    lock_plugin: str | None = "python3-dnf-plugin-versionlock"

    def repository(self, source: VendorSource) -> str:
        on_metadata = source.signs == "metadata"
        checks = [f"gpgcheck={int(not on_metadata)}", f"repo_gpgcheck={int(on_metadata)}"]
        return "\n".join([*repository_lines(source), *checks]) + "\n"

    def install(self, *packages: str) -> tuple[Action, ...]:
        return _installing(packages, packages)

    def install_versions(self, versions: Mapping[str, str]) -> tuple[Action, ...]:
        """An exact version is also a downgrade (dnf(8), install); a lock would hide it."""
        words = [f"{name}-{version}" for name, version in versions.items()]
        return (*self.release(*versions), *_installing(words, versions))

    def hold(self, *packages: str) -> tuple[Action, ...]:
        traces = tuple(Trace("hold", package) for package in packages)
        lock = Run(
            dnf("versionlock", "add", *packages),
            f"dnf versionlock {' '.join(packages)}",
            traces=traces,
        )
        return (*self._lockable(), lock)

    def release(self, *packages: str) -> tuple[Action, ...]:
        """One that is not locked is no error, and neither is a dnf that cannot lock."""
        return (Run(dnf("versionlock", "delete", *packages), may_fail=True),)

    def remove(self, *packages: str) -> tuple[Action, ...]:
        return (Run(dnf("remove", *packages), f"dnf remove {' '.join(packages)}"),)

    def repair(self, facts: Facts) -> tuple[Action, ...]:
        """Twice installed ones lose their older half, cut short ones run their scripts again."""
        packages = facts[PACKAGES]
        if not packages.broken and not packages.interrupted:
            return ()
        duplicates = Run(dnf("remove", "--duplicates"), may_fail=True)
        if not packages.broken:
            return (duplicates,)
        again = Run(
            dnf("reinstall", *packages.broken), f"dnf reinstall {' '.join(packages.broken)}"
        )
        return (duplicates, again)

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        return VENDOR_DOCKER

    def header_packages(self, kernel_release: str, os: OsFacts) -> tuple[str, ...]:
        return (f"kernel-devel-{kernel_release}",)

    def driver_actions(self, choice: DriverChoice, facts: Facts, host: Host) -> tuple[Action, ...]:
        self.require_vendor_driver(host)
        source = self.vendor_source("nvidia", facts[OS], host)
        packages = self.driver_packages(choice, host.driver_source)
        by_branch = self._from_stream if self.has_streams(facts[OS]) else self._from_locked_branch
        return (
            *self.source_actions(source, facts),
            *self.driver_prerequisites(facts, host),
            *by_branch(choice, packages),
        )

    def has_streams(self, os: OsFacts) -> bool:
        """Whether NVIDIA's repository has a module stream per branch."""
        return False

    def driver_prerequisites(self, facts: Facts, host: Host) -> tuple[Action, ...]:
        """Repositories that the driver's own dependencies come from."""
        return ()

    def _from_stream(self, choice: DriverChoice, packages: Sequence[str]) -> tuple[Action, ...]:
        """dnf refuses to switch from one enabled stream to another, hence the reset."""
        stream = f"nvidia-driver:{choice.branch}-{STREAM[choice.flavour]}"
        enable = dnf("module", "enable", stream)
        return (
            *self.release(*packages),
            Run(dnf("module", "reset", "nvidia-driver")),
            Run(enable, traces=(Trace("command", f"dnf module enable {stream}"),)),
            *self.install(*packages),
            *self.hold(*packages),
        )

    def _from_locked_branch(
        self, choice: DriverChoice, packages: Sequence[str]
    ) -> tuple[Action, ...]:
        """Locked before anything is installed, so that dependencies come from the branch too
        (driver installation guide 620, table 5 and version locking). A lock that matches nothing
        is no error to dnf, so the branch is also in what is asked for."""
        others = [branch for branch in data.load("drivers")["branches"] if branch != choice.branch]
        words = [f"{package}-{choice.branch}.*" for package in packages]
        return (
            *self._lockable(),
            *self.release(*(pattern for branch in others for pattern in _of_branch(branch))),
            Run(dnf("versionlock", "add", *_of_branch(choice.branch))),
            *_installing(words, packages, holds=True),
        )

    def _lockable(self) -> tuple[Action, ...]:
        return self.install(self.lock_plugin) if self.lock_plugin else ()

    def authority_directory(self) -> PurePosixPath:
        return AUTHORITIES

    def authority_actions(self, certificates: Mapping[str, bytes]) -> tuple[Action, ...]:
        return self.trusting(AUTHORITIES, "update-ca-trust", certificates)


def no_docker_of_its_own(distribution: str) -> BlockedError:
    return BlockedError(
        f"{distribution} has no Docker in its own repositories (they offer podman)",
        remedy="set docker_source: vendor",
    )


def no_vendor_docker(distribution: str) -> BlockedError:
    return BlockedError(
        f"Docker publishes no packages for {distribution}", remedy="set docker_source: distro"
    )


def dnf(*words: str) -> Command:
    """Never asks anything; waits for another dnf by itself."""
    return Command.of("dnf", "-y", *words, sudo=True, timeout_s=INSTALL_TIMEOUT_S)


def _installing(
    words: Iterable[str], packages: Iterable[str], *, holds: bool = False
) -> tuple[Action, ...]:
    """``words`` as dnf takes them, ``packages`` by their bare names."""
    named = tuple(packages)
    traces = [Trace("package", name) for name in named]
    if holds:
        traces.extend(Trace("hold", name) for name in named)
    command = dnf("--refresh", "install", *words)
    return (Run(command, f"dnf install {' '.join(words)}", traces=tuple(traces)),)


def _of_branch(branch: str) -> tuple[str, ...]:
    return (f"*nvidia*{branch}.*", f"cuda-drivers*{branch}.*")
