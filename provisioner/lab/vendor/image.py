"""The image that holds both repositories and serves them: compiled and indexed while built."""

from __future__ import annotations

import platform

from provisioner.lab.distros import DISTROS
from provisioner.lab.inventory_file import (
    DEB_ARCHITECTURE,
    GUEST_FOLDER,
    cuda_path,
    toolkit_path,
)
from provisioner.lab.recipe import Recipe, packaged_files
from provisioner.lab.vendor.driver import DRIVERS, driver_packages
from provisioner.lab.vendor.fabric import fabric_manager
from provisioner.lab.vendor.package import (
    DKMS_REPOSITORY,
    DRIVER_REPOSITORY,
    OVERLAY_REPOSITORY,
    TOOLKIT_REPOSITORY,
    Package,
    Sources,
)
from provisioner.lab.vendor.toolkit import TOOLKITS, toolkit_packages

BUILDER_INPUTS = ("src/", "server/build.sh", "server/serve.sh")


def tools_recipe(base: str) -> Recipe:
    """A compiler, dpkg-deb, apt-ftparchive, gpg and python3 on plain Debian."""
    dockerfile = packaged_files("vendor")["server/Dockerfile.tools"].decode()
    return Recipe("rigup-lab/tools", {"Dockerfile": f"FROM {base}\n{dockerfile}".encode()})


def vendor_recipe(tools: str, machine: str | None = None) -> Recipe:
    """The repositories for a machine as ``uname -m`` names it (default: this one)."""
    chosen = machine or platform.machine()
    sources = packaged_files("vendor")
    files = {f"src/{path}": sources[path] for path in sources if path.startswith(BUILDER_INPUTS)}
    architecture = DEB_ARCHITECTURE.get(chosen, "amd64")
    for package in all_packages(sources, chosen):
        folder = f"src/debs/{package.repository}_{package.name}_{package.version}"
        tree = package.tree(architecture, sources["driver/preinst.sh"])
        files |= {f"{folder}/{path}": data for path, data in tree.items()}
    files["src/drivers.txt"] = _driver_lines().encode()
    files["src/repositories.txt"] = _repository_lines(chosen).encode()
    dockerfile = sources["server/Dockerfile.vendor"].decode()
    files["Dockerfile"] = f"FROM {tools}\n{dockerfile}".encode()
    return Recipe("rigup-lab/vendor", files)


def all_packages(sources: Sources, machine: str) -> tuple[Package, ...]:
    multiarch = f"{machine}-linux-gnu"
    drivers = (driver_packages(driver, sources, multiarch) for driver in DRIVERS)
    toolkits = (toolkit_packages(version, sources) for version in TOOLKITS)
    fabric = tuple(fabric_manager(driver, sources) for driver in DRIVERS)
    return tuple(package for group in (*drivers, fabric, *toolkits) for package in group)


def _driver_lines() -> str:
    return "".join(f"{driver.version} {driver.cuda // 1000} {driver.cuda}\n" for driver in DRIVERS)


def _repository_lines(machine: str) -> str:
    """Which packages go where: the driver's once per distro, as on NVIDIA's server. What guests
    read lies in a folder of its own, which differs in the kernel packages only."""
    hosts, guests = (
        f"{DRIVER_REPOSITORY} {OVERLAY_REPOSITORY}",
        f"{DRIVER_REPOSITORY} {DKMS_REPOSITORY}",
    )
    lines = [f"{toolkit_path(machine)} {TOOLKIT_REPOSITORY}"]
    for distro in DISTROS:
        path = cuda_path(distro.name, machine)
        lines += [f"{path} {hosts}", f"{GUEST_FOLDER}/{path} {guests}"]
    return "".join(f"{line}\n" for line in lines)
