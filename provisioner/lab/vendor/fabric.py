"""The Fabric Manager's package: like the real one it serves exactly one driver version."""

from __future__ import annotations

from provisioner.lab.vendor.driver import Driver
from provisioner.lab.vendor.package import DRIVER_REPOSITORY, UNIT_DIR, Package, Sources

UNIT = "nvidia-fabricmanager.service"


def fabric_manager(driver: Driver, sources: Sources) -> Package:
    program = sources["driver/nv-fabricmanager"]
    return Package(
        name="nvidia-fabricmanager",
        version=driver.package_version,
        repository=DRIVER_REPOSITORY,
        summary="connects GPUs through NVSwitches",
        files={
            "usr/bin/nv-fabricmanager": program.replace(b"@VERSION@", driver.version.encode()),
            f"{UNIT_DIR}/{UNIT}": sources[f"driver/{UNIT}"],
        },
    )
