"""openSUSE Leap and SUSE Linux Enterprise Server."""

from __future__ import annotations

from provisioner.facts.os import OsFacts
from provisioner.platforms.dnf import no_vendor_docker
from provisioner.platforms.zypper import ZypperPlatform

CODENAMES = {
    ("opensuse-leap", "15.6"): "opensuse15",
    ("opensuse-leap", "16.0"): "suse16",
    ("sles", "15.6"): "sles15",
    ("sles", "15.7"): "sles15",
    ("sles", "16.0"): "suse16",
}
"""Driver installation guide 610: Leap 15.6 and 16, SLES 15 from SP6 and 16."""


class Suse(ZypperPlatform):
    name = "suse"

    @property
    def releases(self) -> tuple[str, ...]:
        return tuple(f"{id_} {version}" for id_, version in CODENAMES)

    def codename(self, os: OsFacts) -> str | None:
        return CODENAMES.get((os.id, os.version))

    def supports(self, os: OsFacts) -> bool:
        """NVIDIA's repository for Leap 15 has no Arm part."""
        no_arm = self.codename(os) == "opensuse15" and os.architecture != "x86_64"
        return super().supports(os) and not no_arm

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        if source == "vendor":
            raise no_vendor_docker(os.pretty_name)
        return ("docker",)

    def header_packages(self, kernel_release: str, os: OsFacts) -> tuple[str, ...]:
        """``6.4.0-150600.23.53-default`` is the kernel of flavour default; its packages' release
        has one more number, and they provide themselves without it (kernel-source,
        kernel-binary.spec.in)."""
        version, _, flavour = kernel_release.rpartition("-")
        return (f"kernel-{flavour}-devel={version}",)
