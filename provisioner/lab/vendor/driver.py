"""The driver's packages. Names and dependencies: NVIDIA's driver installation guide, Debian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from provisioner.lab.vendor.package import (
    DKMS_REPOSITORY,
    DRIVER_REPOSITORY,
    LAB_DIR,
    OVERLAY_REPOSITORY,
    UNIT_DIR,
    Compiled,
    Package,
    Sources,
)


@dataclass(frozen=True)
class Driver:
    """``cuda`` as NVML gives it: 1000 * major + 10 * minor."""

    version: str
    cuda: int

    @property
    def branch(self) -> str:
        return self.version.partition(".")[0]

    @property
    def package_version(self) -> str:
        return f"{self.version}-1"


DRIVERS = (Driver("580.173.02", 13000), Driver("595.91.07", 13020))
"""Two branches, so that an unpinned host gets the wrong one."""

FLAVOURS = {"nvidia-kernel-open-dkms": "open", "nvidia-kernel-dkms": "proprietary"}

PINNING = """\
Package: nvidia-open cuda-drivers nvidia-driver* nvidia-kernel* nvidia-persistenced \
nvidia-modprobe libnvidia-ml1
Pin: version {branch}.*
Pin-Priority: 1000
"""


def driver_packages(driver: Driver, sources: Sources, multiarch: str) -> tuple[Package, ...]:
    """All packages of one driver version; ``multiarch`` such as ``x86_64-linux-gnu``."""
    exact = f"(= {driver.package_version})"
    kernel = " | ".join(f"{name} {exact}" for name in FLAVOURS)
    return (
        _pinning(driver),
        *(_overlay(driver, sources, name) for name in FLAVOURS),
        *(_dkms(driver, sources, name) for name in FLAVOURS),
        _library(driver, multiarch),
        *_kernel_support(driver, sources),
        _persistenced(driver, sources),
        Package(
            name="nvidia-driver-cuda",
            version=driver.package_version,
            repository=DRIVER_REPOSITORY,
            summary="compute part of the driver, with nvidia-smi",
            depends=(
                *(f"{name} {exact}" for name in ("libnvidia-ml1", "nvidia-persistenced")),
                f"nvidia-modprobe {exact}",
                kernel,
            ),
            provides=("nvidia-smi",),
            compiled={"usr/bin/nvidia-smi": Compiled(f"{driver.version}/nvidia-smi", "755")},
        ),
        _meta(driver, "nvidia-driver", "driver", "nvidia-driver-cuda"),
        _meta(
            driver,
            "nvidia-open",
            "driver with open kernel modules",
            *("nvidia-kernel-open-dkms", "nvidia-driver"),
        ),
        _meta(
            driver,
            "cuda-drivers",
            "driver with proprietary kernel modules",
            *("nvidia-kernel-dkms", "nvidia-driver"),
        ),
    )


def _meta(driver: Driver, name: str, summary: str, *depends: str) -> Package:
    return Package(
        name=name,
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary=f"{summary}, metapackage",
        depends=tuple(f"{other} (= {driver.package_version})" for other in depends),
    )


def _pinning(driver: Driver) -> Package:
    name = f"nvidia-driver-pinning-{driver.branch}"
    text = PINNING.format(branch=driver.branch)
    return Package(
        name=name,
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary=f"pins the driver to branch {driver.branch}",
        files={f"etc/apt/preferences.d/{name}": text.encode()},
    )


def _library(driver: Driver, multiarch: str) -> Package:
    path = f"usr/lib/{multiarch}/libnvidia-ml.so.1"
    return Package(
        name="libnvidia-ml1",
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary="NVIDIA Management Library",
        compiled={path: Compiled(f"{driver.version}/libnvidia-ml.so", "644")},
    )


def _overlay(driver: Driver, sources: Sources, name: str) -> Package:
    module = f"usr/src/nvidia-{driver.version}/nvidia.ko"
    return replace(
        _kernel(driver, sources, name),
        repository=OVERLAY_REPOSITORY,
        compiled={module: Compiled(f"{driver.version}/nvidia.ko", "644")},
    )


def _dkms(driver: Driver, sources: Sources, name: str) -> Package:
    package = _kernel(driver, sources, name)
    built = {
        f"usr/src/nvidia-{driver.version}/{file}": _at(driver.version, sources[f"dkms/{file}"])
        for file in ("dkms.conf", "Makefile", "nvidia.c")
    }
    marker = {f"{LAB_DIR}/real-module": b"DKMS builds it and the kernel loads it\n"}
    return replace(
        package,
        repository=DKMS_REPOSITORY,
        depends=(*package.depends, "dkms"),
        files={**package.files, **built, **marker},
    )


def _kernel(driver: Driver, sources: Sources, name: str) -> Package:
    return Package(
        name=name,
        version=driver.package_version,
        repository="",
        summary=f"{FLAVOURS[name]} kernel modules",
        depends=(f"nvidia-kernel-common (= {driver.package_version})",),
        conflicts=tuple(other for other in FLAVOURS if other != name),
        files={f"{LAB_DIR}/module-version": f"{driver.version}\n".encode()},
        scripts=_scripts(sources, "driver/kernel", driver.version),
    )


def _kernel_support(driver: Driver, sources: Sources) -> tuple[Package, ...]:
    unit = "rigup-lab-nvidia-module.service"
    common = Package(
        name="nvidia-kernel-common",
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary="kernel module support files",
        depends=("kmod",),
        files={
            f"{LAB_DIR}/nvidia-module": sources["driver/nvidia-module"],
            f"{UNIT_DIR}/{unit}": sources[f"driver/{unit}"],
            "etc/modprobe.d/nvidia-rigup-lab.conf": sources["driver/modprobe.conf"],
        },
    )
    loader = Package(
        name="nvidia-modprobe",
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary="loads the kernel module",
        depends=(f"nvidia-kernel-common (= {driver.package_version})",),
        files={"usr/bin/nvidia-modprobe": sources["driver/nvidia-modprobe"]},
    )
    return common, loader


def _persistenced(driver: Driver, sources: Sources) -> Package:
    unit = "nvidia-persistenced.service"
    return Package(
        name="nvidia-persistenced",
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary="keeps the driver initialised",
        depends=(f"libnvidia-ml1 (= {driver.package_version})",),
        files={
            "usr/bin/nvidia-persistenced": sources["driver/nvidia-persistenced"],
            f"{UNIT_DIR}/{unit}": sources[f"driver/{unit}"],
        },
        scripts=_scripts(sources, "driver/persistenced", driver.version),
    )


def _scripts(sources: Sources, prefix: str, version: str) -> Mapping[str, bytes]:
    return {name: _at(version, sources[f"{prefix}-{name}.sh"]) for name in ("postinst", "prerm")}


def _at(version: str, template: bytes) -> bytes:
    return template.replace(b"@VERSION@", version.encode())
