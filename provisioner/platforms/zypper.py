"""The family of zypper: repository files in /etc/zypp, keys in rpm's own database, locks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.facts import OS, PACKAGES, Facts
from provisioner.hardware import DriverChoice
from provisioner.platforms.base import VendorSource
from provisioner.platforms.rpm import INSTALL_TIMEOUT_S, RpmPlatform, repository_lines
from provisioner.traces import Trace

AUTHORITIES = PurePosixPath("/etc/pki/trust/anchors")
LOCK_TIMEOUT_S = 300

CHANGE = (
    'zypper --non-interactive "$@"; code=$?; case $code in 102|103|106) exit 0 ;; esac; exit $code'
)
"""zypper(8), exit codes: done, but a reboot or a restart of zypper is suggested, or some other
repository was left out."""

INSTALL_BRANCH = """\
set -eu
version=$(zypper --non-interactive --quiet search --details --match-exact --type package "$1" |
  awk -F '|' -v branch="$2." '{
    gsub(/ /, "", $4); plain = $4; sub(/^[0-9]+:/, "", plain)
    if (index(plain, branch) == 1) print $4
  }' | sort -V | tail -n 1)
[ -n "$version" ] || { echo "no $1 of branch $2 in the repositories" >&2; exit 1; }
exec zypper --non-interactive install --auto-agree-with-licenses "$1=$version"
"""
"""zypper can ask for one version of a package, not for the newest of a branch."""


class ZypperPlatform(RpmPlatform):
    repository_directory = PurePosixPath("/etc/zypp/repos.d")

    def repository(self, source: VendorSource) -> str:
        on_metadata = source.signs == "metadata"
        checks = [
            "autorefresh=1",
            "type=rpm-md",
            "gpgcheck=1",
            f"repo_gpgcheck={int(on_metadata)}",
            f"pkg_gpgcheck={int(not on_metadata)}",
        ]
        return "\n".join([*repository_lines(source), *checks]) + "\n"

    def trust_actions(self, key: PurePosixPath) -> tuple[Action, ...]:
        """zypper asks a person before it takes a key from a repository; the pinned one is in
        place before it looks, and no other is ever taken."""
        return (Run(Command.of("rpm", "--import", str(key), sudo=True)),)

    def install(self, *packages: str) -> tuple[Action, ...]:
        return (
            Run(zypper("refresh"), "zypper refresh", may_fail=True),
            Run(
                changing("install", "--auto-agree-with-licenses", *packages),
                f"zypper install {' '.join(packages)}",
                traces=tuple(Trace("package", package) for package in packages),
            ),
        )

    def install_versions(self, versions: Mapping[str, str]) -> tuple[Action, ...]:
        words = [f"{name}={version}" for name, version in versions.items()]
        install = Run(
            changing("install", "--auto-agree-with-licenses", "--oldpackage", *words),
            f"zypper install {' '.join(words)}",
            traces=tuple(Trace("package", name) for name in versions),
        )
        return (*self.release(*versions), install)

    def hold(self, *packages: str) -> tuple[Action, ...]:
        traces = tuple(Trace("hold", package) for package in packages)
        return (Run(zypper("addlock", *packages), traces=traces),)

    def release(self, *packages: str) -> tuple[Action, ...]:
        return (Run(zypper("removelock", *packages), may_fail=True),)

    def remove(self, *packages: str) -> tuple[Action, ...]:
        label = f"zypper remove {' '.join(packages)}"
        return (*self.release(*packages), Run(changing("remove", *packages), label))

    def repair(self, facts: Facts) -> tuple[Action, ...]:
        packages = facts[PACKAGES]
        if not packages.broken and not packages.interrupted:
            return ()
        again = ("install", "--force", "--auto-agree-with-licenses", *packages.broken)
        return (
            *((Run(changing(*again), "zypper install --force"),) if packages.broken else ()),
            Run(changing("verify"), "zypper verify"),
        )

    def driver_actions(self, choice: DriverChoice, facts: Facts, host: Host) -> tuple[Action, ...]:
        """NVIDIA's guide has no rows for SUSE in the tables of 620: the metapackages of its
        repository, the branch by version, then a lock."""
        self.require_vendor_driver(host)
        source = self.vendor_source("nvidia", facts[OS], host)
        packages = self.driver_packages(choice, host.driver_source)
        installs = (install_branch(package, choice.branch) for package in packages)
        return (
            *self.source_actions(source, facts),
            Run(zypper("refresh"), "zypper refresh", may_fail=True),
            *installs,
            *self.hold(*packages),
        )

    def authority_directory(self) -> PurePosixPath:
        return AUTHORITIES

    def authority_actions(self, certificates: Mapping[str, bytes]) -> tuple[Action, ...]:
        return self.trusting(AUTHORITIES, "update-ca-certificates", certificates)


def install_branch(package: str, branch: str) -> Run:
    command = Command.of(
        *("env", f"ZYPP_LOCK_TIMEOUT={LOCK_TIMEOUT_S}", "sh", "-c", INSTALL_BRANCH, "sh"),
        *(package, branch),
        sudo=True,
        timeout_s=INSTALL_TIMEOUT_S,
    )
    return Run(command, f"zypper install {package} {branch}", traces=(Trace("package", package),))


def changing(*words: str) -> Command:
    wrapped = ("sh", "-c", CHANGE, "zypper", *words)
    return Command.of(*_patient(wrapped), sudo=True, timeout_s=INSTALL_TIMEOUT_S)


def zypper(*words: str) -> Command:
    plain = ("zypper", "--non-interactive", *words)
    return Command.of(*_patient(plain), sudo=True, timeout_s=INSTALL_TIMEOUT_S)


def _patient(words: tuple[str, ...]) -> tuple[str, ...]:
    """Wait for another zypper's lock, in seconds."""
    return ("env", f"ZYPP_LOCK_TIMEOUT={LOCK_TIMEOUT_S}", *words)
