"""Debian and Ubuntu: apt, deb822 sources, keys in /etc/apt/keyrings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from inventory import Host
from inventory.model import Repository
from provisioner import data, openpgp
from provisioner.actions import Action, Run, WriteFile, run_checked
from provisioner.command import Command
from provisioner.errors import StepFailed
from provisioner.facts import SOURCES, Facts
from provisioner.facts.os import OsFacts
from provisioner.platforms.base import VendorSource
from provisioner.transport.base import Transport
from provisioner.transport.upload import put_command

SUPPORTED = {
    ("debian", "12"): "debian12",
    ("debian", "13"): "debian13",
    ("ubuntu", "22.04"): "ubuntu2204",
    ("ubuntu", "24.04"): "ubuntu2404",
    ("ubuntu", "26.04"): "ubuntu2604",
}
"""os-release ID and VERSION_ID -> name in NVIDIA's repository (driver installation guide 610)."""

NVIDIA_ARCH = {"x86_64": "x86_64", "aarch64": "sbsa"}
DEB_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
VENDOR_DOCKER = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-buildx-plugin",
    "docker-compose-plugin",
)
LOCK_TIMEOUT_S = 300
INSTALL_TIMEOUT_S = 3600.0

FETCH_KEY = """\
set -eu
directory=$(mktemp -d)
trap 'rm -rf -- "$directory"' EXIT
/usr/lib/apt/apt-helper download-file "$1" "$directory/key" >&2
head -c 1048576 "$directory/key"
"""


@dataclass(frozen=True)
class FetchKey:
    """Download a signing key on the host and file it, if it is the pinned one."""

    source: VendorSource
    path: PurePosixPath
    label: str = ""

    def describe(self) -> str:
        return (
            f"download {self.source.key_url}, require fingerprint "
            f"{self.source.key_fingerprint}, write {self.path}"
        )

    def apply(self, transport: Transport) -> None:
        fetched = run_checked(transport, Command.sh(FETCH_KEY, self.source.key_url, sudo=True))
        self._require_pinned(fetched.stdout, transport.host_name)
        key = openpgp.armored(fetched.stdout)
        run_checked(transport, put_command(key, self.path, sudo=True))

    def _require_pinned(self, key: bytes, host: str) -> None:
        wanted = self.source.key_fingerprint.upper()
        try:
            found = openpgp.fingerprints(key)
        except ValueError as error:
            raise StepFailed(
                f"{self.source.key_url} is no signing key: {error}",
                host=host,
                remedy="check the mirror's key_url in the inventory",
            ) from error
        if set(found) != {wanted}:
            raise StepFailed(
                f"{self.source.key_url} holds another key ({', '.join(found)}) than the pinned "
                f"{wanted}; nothing was installed from it",
                host=host,
                remedy="find out who changed the key; pin key_fingerprint in the inventory only "
                "if you have verified it",
            )


class Debian:
    """The family of apt."""

    name = "debian"

    def supports(self, os: OsFacts) -> bool:
        return (os.id, os.version) in SUPPORTED and os.architecture in NVIDIA_ARCH

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        if source == "vendor":
            return VENDOR_DOCKER
        split_client = (os.id, os.version) == ("debian", "13")
        return ("docker.io", "docker-cli") if split_client else ("docker.io",)

    def vendor_source(self, name: str, os: OsFacts, host: Host) -> VendorSource:
        row = data.load("repositories")[name]
        platform = SUPPORTED[os.id, os.version]
        row = {**row, **row.get("per_platform", {}).get(platform, {})}
        values = {
            "platform": platform,
            "id": os.id,
            "codename": os.codename,
            "arch": NVIDIA_ARCH[os.architecture],
            "deb_arch": DEB_ARCH[os.architecture],
        }
        official = VendorSource(
            name=name,
            uri=row["uri"].format(**values),
            key_url=row["key_url"].format(**values),
            key_fingerprint=row["key_fingerprint"],
            suite=row.get("suite", "/").format(**values),
            components=row.get("components", ""),
        )
        return _mirrored(official, getattr(host.mirrors, name))

    def source_actions(self, source: VendorSource, facts: Facts) -> tuple[Action, ...]:
        present = facts[SOURCES]
        file, key = _source_path(source), _key_path(source)
        wanted = _deb822(source, key)
        actions: list[Action] = []
        if str(key) not in present.keys:
            actions.append(FetchKey(source, key))
        if present.files.get(str(file)) != wanted:
            actions.append(WriteFile(file, wanted))
        return tuple(actions)

    def install(self, *packages: str) -> tuple[Action, ...]:
        return (
            Run(_apt_get("update"), "apt-get update"),
            Run(_apt_get("install", "-y", *packages), f"apt-get install {' '.join(packages)}"),
        )


def _mirrored(official: VendorSource, mirror: Repository) -> VendorSource:
    return replace(
        official,
        uri=mirror.uri or official.uri,
        key_url=mirror.key_url or official.key_url,
        key_fingerprint=mirror.key_fingerprint or official.key_fingerprint,
    )


def _key_path(source: VendorSource) -> PurePosixPath:
    """The name carries the fingerprint: another pinned key is another file."""
    short = source.key_fingerprint.lower()[-16:]
    return PurePosixPath(f"/etc/apt/keyrings/rigup-{source.name}-{short}.asc")


def _source_path(source: VendorSource) -> PurePosixPath:
    return PurePosixPath(f"/etc/apt/sources.list.d/rigup-{source.name}.sources")


def _deb822(source: VendorSource, key: PurePosixPath) -> str:
    lines = [
        "# written by rigup; changes are overwritten",
        "Types: deb",
        f"URIs: {source.uri}",
        f"Suites: {source.suite}",
        *([f"Components: {source.components}"] if source.components else []),
        f"Signed-By: {key}",
    ]
    return "\n".join(lines) + "\n"


def _apt_get(*words: str) -> Command:
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
