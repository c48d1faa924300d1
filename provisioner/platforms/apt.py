"""The family of apt: deb822 sources, keys in /etc/apt/keyrings, holds with apt-mark."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, Run, WriteFile
from provisioner.command import Command
from provisioner.errors import CommandFailed
from provisioner.facts import ARCHIVE, OS, PACKAGES, SOURCES, Facts
from provisioner.facts.os import OsFacts
from provisioner.hardware import DriverChoice
from provisioner.platforms.base import VendorSource
from provisioner.platforms.keys import FetchKey
from provisioner.platforms.sources import key_file_name, vendor_source
from provisioner.traces import Trace
from provisioner.transport.base import Transport

NVIDIA_ARCH = {"x86_64": "x86_64", "aarch64": "sbsa"}
DEB_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
VENDOR_DOCKER = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-buildx-plugin",
    "docker-compose-plugin",
)
HEADER = "# written by rigup; changes are overwritten"
LOCK_TIMEOUT_S = 300
LOCK_POLL_S = 3
INSTALL_TIMEOUT_S = 3600.0
AUTHORITIES = PurePosixPath("/usr/local/share/ca-certificates")

VENDOR_DRIVER = {"open": "nvidia-open", "proprietary": "cuda-drivers"}
"""Driver installation guide: metapackages of NVIDIA's own repository."""

FETCH_KEY = """\
set -eu
directory=$(mktemp -d)
trap 'rm -rf -- "$directory"' EXIT
/usr/lib/apt/apt-helper download-file "$1" "$directory/key" >&2
head -c 1048576 "$directory/key"
"""


@dataclass(frozen=True)
class AptMark(Run):
    """apt-mark knows no lock timeout: it is asked again while somebody else holds dpkg's lock."""

    sleep: Callable[[float], None] = field(default=time.sleep, compare=False, repr=False)

    def apply(self, transport: Transport) -> None:
        for _ in range(LOCK_TIMEOUT_S // LOCK_POLL_S):
            result = transport.run(self.command)
            if result.ok or b"lock was locked by" not in result.stderr:
                break
            self.sleep(LOCK_POLL_S)
        if not result.ok:
            raise CommandFailed(result, host=transport.host_name)


class AptPlatform:
    """What Debian and Ubuntu share. ``codenames``: os-release VERSION_ID -> the release's name in
    NVIDIA's repository (driver installation guide 610)."""

    name: str
    usual_docker = "distro"
    os_id: str
    codenames: Mapping[str, str]

    @property
    def releases(self) -> tuple[str, ...]:
        return tuple(f"{self.os_id} {version}" for version in self.codenames)

    def supports(self, os: OsFacts) -> bool:
        known = os.id == self.os_id and os.version in self.codenames
        return known and os.architecture in NVIDIA_ARCH

    def vendor_source(self, name: str, os: OsFacts, host: Host) -> VendorSource:
        platform = self.codenames[os.version]
        values = {
            "platform": platform,
            "id": os.id,
            "codename": os.codename,
            "arch": NVIDIA_ARCH[os.architecture],
            "deb_arch": DEB_ARCH[os.architecture],
        }
        return vendor_source(name, "apt", platform, values, host)

    def source_actions(self, source: VendorSource, facts: Facts) -> tuple[Action, ...]:
        if _offered_already(source, facts):
            return ()
        present = facts[SOURCES]
        file, key = source_path(source), key_path(source)
        wanted = deb822(source, key)
        actions: list[Action] = []
        if present.keys.get(str(key)) != source.key_fingerprint:
            actions.append(FetchKey(source, key, FETCH_KEY))
        if present.files.get(str(file)) != wanted:
            actions.append(WriteFile(file, wanted))
        return tuple(actions)

    def probe_urls(self, source: VendorSource) -> tuple[str, ...]:
        base = source.uri.rstrip("/")
        flat = source.suite == "/"
        return (f"{base}/InRelease" if flat else f"{base}/dists/{source.suite}/InRelease",)

    def install(self, *packages: str) -> tuple[Action, ...]:
        return (Run(apt_get("update"), "apt-get update"), _installed(*packages))

    def install_versions(self, versions: Mapping[str, str]) -> tuple[Action, ...]:
        words = [f"{name}={_any_revision(version)}" for name, version in versions.items()]
        exact = ("install", "-y", "--allow-downgrades", "--allow-change-held-packages")
        return (
            Run(apt_get("update"), "apt-get update"),
            Run(
                apt_get(*exact, *words),
                f"apt-get install {' '.join(words)}",
                traces=tuple(Trace("package", name) for name in versions),
            ),
        )

    def hold(self, *packages: str) -> tuple[Action, ...]:
        traces = tuple(Trace("hold", package) for package in packages)
        return (AptMark(Command.of("apt-mark", "hold", *packages, sudo=True), traces=traces),)

    def release(self, *packages: str) -> tuple[Action, ...]:
        return (AptMark(Command.of("apt-mark", "unhold", *packages, sudo=True)),)

    def remove(self, *packages: str) -> tuple[Action, ...]:
        words = ("remove", "-y", "--allow-change-held-packages", *packages)
        return (Run(apt_get(*words), f"apt-get remove {' '.join(packages)}"),)

    def repair(self, facts: Facts) -> tuple[Action, ...]:
        packages = facts[PACKAGES]
        if not packages.broken and not packages.interrupted:
            return ()
        configure = Command.of(
            *("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confold"),
            *("--configure", "-a"),
            sudo=True,
            timeout_s=INSTALL_TIMEOUT_S,
        )
        return (
            Run(configure, "dpkg --configure -a", may_fail=True),
            Run(apt_get("install", "-y", "-f"), "apt-get install -f"),
        )

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        return VENDOR_DOCKER if source == "vendor" else ("docker.io",)

    def header_packages(self, kernel_release: str, os: OsFacts) -> tuple[str, ...]:
        return (f"linux-headers-{kernel_release}",)

    def driver_packages(self, choice: DriverChoice, source: str) -> tuple[str, ...]:
        if source == "vendor":
            return (VENDOR_DRIVER[choice.flavour],)
        return self.distro_driver_packages(choice)

    def distro_driver_packages(self, choice: DriverChoice) -> tuple[str, ...]:
        raise NotImplementedError

    def distro_driver_actions(
        self, choice: DriverChoice, facts: Facts, host: Host
    ) -> tuple[Action, ...]:
        raise NotImplementedError

    def driver_actions(self, choice: DriverChoice, facts: Facts, host: Host) -> tuple[Action, ...]:
        if host.driver_source == "distro":
            return self.distro_driver_actions(choice, facts, host)
        source = self.vendor_source("nvidia", facts[OS], host)
        # The pinning package must be installed before the driver is resolved: in one transaction
        # apt takes the newest branch (driver installation guide, version locking).
        return (
            *self.source_actions(source, facts),
            *self.install(f"nvidia-driver-pinning-{choice.branch}"),
            _installed(VENDOR_DRIVER[choice.flavour]),
        )

    def rebuild_initramfs(self) -> tuple[Action, ...]:
        rebuild = Command.of("update-initramfs", "-u", "-k", "all", sudo=True, timeout_s=900)
        return (Run(rebuild, "update-initramfs -u -k all"),)

    def authority_actions(self, certificates: Mapping[str, bytes]) -> tuple[Action, ...]:
        files = tuple(
            WriteFile(AUTHORITIES / name, content.decode())
            for name, content in certificates.items()
        )
        return (*files, Run(Command.of("update-ca-certificates", sudo=True)))

    def authority_directory(self) -> PurePosixPath:
        return AUTHORITIES

    def proxy_files(self, proxy: str) -> Mapping[PurePosixPath, str]:
        lines = [f'Acquire::{scheme}::Proxy "{proxy}";' for scheme in ("http", "https")]
        return {PurePosixPath("/etc/apt/apt.conf.d/90rigup-proxy"): "\n".join(lines) + "\n"}


def key_path(source: VendorSource) -> PurePosixPath:
    return PurePosixPath("/etc/apt/keyrings") / key_file_name(source)


def source_path(source: VendorSource) -> PurePosixPath:
    return PurePosixPath(f"/etc/apt/sources.list.d/rigup-{source.name}.sources")


def _offered_already(source: VendorSource, facts: Facts) -> bool:
    """Somebody else configured the very same repository, with a key file of their own: apt refuses
    to read any source once two name different keys for one. Leftovers of the container toolkit are
    set aside by its step."""
    wanted = source.uri.rstrip("/")
    return source.name != "container_toolkit" and any(
        source.suite in other.suites and wanted in [uri.rstrip("/") for uri in other.uris.split()]
        for other in facts[ARCHIVE].sources
    )


def deb822(source: VendorSource, key: PurePosixPath) -> str:
    lines = [
        HEADER,
        "Types: deb",
        f"URIs: {source.uri}",
        f"Suites: {source.suite}",
        *([f"Components: {source.components}"] if source.components else []),
        f"Signed-By: {key}",
    ]
    return "\n".join(lines) + "\n"


def _installed(*packages: str) -> Run:
    return Run(
        apt_get("install", "-y", *packages),
        f"apt-get install {' '.join(packages)}",
        traces=tuple(Trace("package", package) for package in packages),
    )


def _any_revision(version: str) -> str:
    """A version without a revision takes any: apt-get(8) knows shell patterns there."""
    return version if "-" in version else f"{version}-*"


def apt_get(*words: str) -> Command:
    """Never asks anything, keeps changed configuration files, waits for another apt's lock."""
    return Command.of(
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "NEEDRESTART_MODE=l",
        "apt-get",
        "-q",
        "-o",
        f"DPkg::Lock::Timeout={LOCK_TIMEOUT_S}",
        "-o",
        "Dpkg::Options::=--force-confdef",
        "-o",
        "Dpkg::Options::=--force-confold",
        *words,
        sudo=True,
        timeout_s=INSTALL_TIMEOUT_S,
    )
