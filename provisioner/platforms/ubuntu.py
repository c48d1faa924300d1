"""Ubuntu, long-term releases."""

from __future__ import annotations

from inventory import Host
from provisioner.actions import Action
from provisioner.facts import KERNEL, Facts
from provisioner.facts.kernel import KernelFacts, flavour
from provisioner.hardware import DriverChoice
from provisioner.platforms.apt import AptPlatform

SUFFIX = {"open": "-server-open", "proprietary": "-server"}
"""The archive's branches for data centres (ubuntu-server-documentation, NVIDIA drivers)."""


class Ubuntu(AptPlatform):
    name = "ubuntu"
    os_id = "ubuntu"
    codenames = {  # noqa: RUF012
        "22.04": "ubuntu2204",
        "24.04": "ubuntu2404",
        "26.04": "ubuntu2604",
    }

    def distro_driver_packages(self, choice: DriverChoice) -> tuple[str, ...]:
        return (
            f"nvidia-headless-no-dkms-{choice.branch}{SUFFIX[choice.flavour]}",
            f"nvidia-utils-{choice.branch}-server",
        )

    def distro_driver_actions(
        self, choice: DriverChoice, facts: Facts, host: Host
    ) -> tuple[Action, ...]:
        """Canonical's prebuilt, signed modules: for the running kernel, and a metapackage that
        brings those of later ones."""
        kernel = facts[KERNEL]
        modules = f"linux-modules-nvidia-{choice.branch}{SUFFIX[choice.flavour]}"
        kinds = (kernel.running, _kind(kernel))
        return self.install(
            *(f"{modules}-{kind}" for kind in kinds), *self.distro_driver_packages(choice)
        )


def _kind(kernel: KernelFacts) -> str:
    """``generic-hwe-22.04`` where that metapackage brings the kernels, else ``generic``."""
    prefix = "linux-image-"
    metas = [name.removeprefix(prefix) for name in kernel.metapackages if name.startswith(prefix)]
    own = flavour(kernel.running)
    return next((kind for kind in metas if kind.startswith(own)), own)
