"""Amazon Linux."""

from __future__ import annotations

from provisioner.facts.os import OsFacts
from provisioner.platforms.dnf import DnfPlatform, no_vendor_docker


class AmazonLinux(DnfPlatform):
    """2023, whose kernels newer than 6.1 carry their version in the package's name."""

    name = "amzn"

    @property
    def releases(self) -> tuple[str, ...]:
        return ("amzn 2023",)

    def codename(self, os: OsFacts) -> str | None:
        return "amzn2023" if os.id == "amzn" and os.version.startswith("2023") else None

    def docker_packages(self, os: OsFacts, source: str) -> tuple[str, ...]:
        if source == "vendor":
            raise no_vendor_docker("Amazon Linux")
        return ("docker",)

    def header_packages(self, kernel_release: str, os: OsFacts) -> tuple[str, ...]:
        """With the modules that the driver needs and a cloud image lacks (drm;
        aws/aws-parallelcluster-cookbook, nvidia_driver_alinux2023.rb)."""
        series = ".".join(kernel_release.split(".")[:2])
        kernel = "kernel" if series == "6.1" else f"kernel{series}"
        return (f"{kernel}-devel-{kernel_release}", f"{kernel}-modules-extra-{kernel_release}")

    def has_streams(self, os: OsFacts) -> bool:
        return True
