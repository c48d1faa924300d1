"""What the families of dnf and zypper share: repository files, keys in /etc/pki/rpm-gpg, dracut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import PurePosixPath

from inventory import Host
from provisioner.actions import Action, Run, WriteFile
from provisioner.command import Command
from provisioner.errors import BlockedError
from provisioner.facts import SOURCES, Facts
from provisioner.facts.os import OsFacts
from provisioner.hardware import DriverChoice
from provisioner.platforms.base import VendorSource
from provisioner.platforms.keys import FetchKey
from provisioner.platforms.sources import key_file_name, vendor_source

NVIDIA_ARCH = {"x86_64": "x86_64", "aarch64": "sbsa"}
KEYS = PurePosixPath("/etc/pki/rpm-gpg")
INSTALL_TIMEOUT_S = 3600.0

VENDOR_DRIVER = {"open": "nvidia-open", "proprietary": "cuda-drivers"}
"""Driver installation guide, kernel modules: metapackages of NVIDIA's own repository."""

FETCH_KEY = """\
set -eu
proxy=${2:-}
[ -n "$proxy" ] || proxy=$(sed -n 's/^proxy *= *//p' /etc/dnf/dnf.conf 2>/dev/null | tail -n 1)
if [ -z "$proxy" ] && [ -r /etc/sysconfig/proxy ]; then
  . /etc/sysconfig/proxy
  [ "${PROXY_ENABLED:-no}" != yes ] || proxy=${HTTPS_PROXY:-${HTTP_PROXY:-}}
fi
[ "$proxy" != _none_ ] || proxy=
curl -fsSL --max-filesize 1048576 --connect-timeout 20 --max-time 120 \\
  ${proxy:+--proxy "$proxy"} --url "$1"
"""


class RpmPlatform(ABC):
    """``codename`` is None for a release that NVIDIA's driver installation guide does not list."""

    name: str
    usual_docker = "distro"
    repository_directory: PurePosixPath

    @property
    @abstractmethod
    def releases(self) -> tuple[str, ...]:
        """As people call them."""

    @abstractmethod
    def codename(self, os: OsFacts) -> str | None:
        """The release's name in NVIDIA's repository."""

    def supports(self, os: OsFacts) -> bool:
        return os.architecture in NVIDIA_ARCH and self.codename(os) is not None

    def vendor_source(self, name: str, os: OsFacts, host: Host) -> VendorSource:
        platform = self.codename(os) or ""
        values = {
            "platform": platform,
            "id": os.id,
            "major": os.version.partition(".")[0],
            "arch": NVIDIA_ARCH[os.architecture],
            "basearch": os.architecture,
        }
        return vendor_source(name, "rpm", platform, values, host)

    def source_actions(self, source: VendorSource, facts: Facts) -> tuple[Action, ...]:
        present = facts[SOURCES]
        file, key, wanted = self.source_path(source), key_path(source), self.repository(source)
        actions: list[Action] = []
        if present.keys.get(str(key)) != source.key_fingerprint:
            actions.extend((FetchKey(source, key, FETCH_KEY), *self.trust_actions(key)))
        if present.files.get(str(file)) != wanted:
            if not actions:
                actions.extend(self.trust_actions(key))
            actions.append(WriteFile(file, wanted))
        return tuple(actions)

    def source_path(self, source: VendorSource) -> PurePosixPath:
        return self.repository_directory / f"rigup-{source.name}.repo"

    @abstractmethod
    def repository(self, source: VendorSource) -> str:
        """The text of the repository file."""

    def trust_actions(self, key: PurePosixPath) -> tuple[Action, ...]:
        """What the package manager needs beside the key file to trust what it signs."""
        return ()

    def probe_urls(self, source: VendorSource) -> tuple[str, ...]:
        return (f"{source.uri.rstrip('/')}/repodata/repomd.xml",)

    def driver_packages(self, choice: DriverChoice, source: str) -> tuple[str, ...]:
        return (VENDOR_DRIVER[choice.flavour],)

    def require_vendor_driver(self, host: Host) -> None:
        """Raises BlockedError when the inventory wants the driver from elsewhere."""
        if host.driver_source != "vendor":
            raise BlockedError(
                "the driver is installed from NVIDIA's own repository only on this distribution",
                remedy="set driver_source: vendor",
            )

    def rebuild_initramfs(self) -> tuple[Action, ...]:
        rebuild = Command.of("dracut", "--force", "--regenerate-all", sudo=True, timeout_s=900)
        return (Run(rebuild, "dracut --force --regenerate-all"),)

    def trusting(
        self, directory: PurePosixPath, update: str, certificates: Mapping[str, bytes]
    ) -> tuple[Action, ...]:
        files = tuple(
            WriteFile(directory / name, content.decode()) for name, content in certificates.items()
        )
        return (*files, Run(Command.of(update, sudo=True)))

    def proxy_files(self, proxy: str) -> Mapping[PurePosixPath, str]:
        """None: the proxy stands in each of rigup's own repository files. The managers' shared
        configuration belongs to the people who run the host."""
        return {}


def key_path(source: VendorSource) -> PurePosixPath:
    return KEYS / key_file_name(source)


def repository_lines(source: VendorSource) -> list[str]:
    """What dnf and zypper write alike (dnf.conf(5); zypper(8), repository files)."""
    return [
        "# written by rigup; changes are overwritten",
        f"[rigup-{source.name}]",
        f"name=rigup {source.name}",
        f"baseurl={source.uri}",
        "enabled=1",
        f"gpgkey=file://{key_path(source)}",
        *([f"includepkgs={source.only}"] if source.only else []),
        *([f"proxy={source.proxy}"] if source.proxy else []),
    ]
