"""The container toolkit's four packages, which move together (NVIDIA/cloud-native-docs)."""

from __future__ import annotations

from provisioner.lab.vendor.package import (
    LAB_DIR,
    TOOLKIT_REPOSITORY,
    UNIT_DIR,
    Package,
    Sources,
)

TOOLKITS = ("1.17.0-1", "1.20.0-1")
"""The newest known release, and one below the security floor."""

FIRST_WITH_CDI_REFRESH = (1, 18)
REFRESH_UNITS = ("nvidia-cdi-refresh.service", "nvidia-cdi-refresh.path")


def toolkit_packages(version: str, sources: Sources) -> tuple[Package, ...]:
    """All four, at one package version such as ``1.20.0-1``."""
    entry = sources["toolkit/entry.sh"]
    return (
        Package(
            name="libnvidia-container1",
            version=version,
            repository=TOOLKIT_REPOSITORY,
            summary="NVIDIA container runtime library",
        ),
        Package(
            name="libnvidia-container-tools",
            version=version,
            repository=TOOLKIT_REPOSITORY,
            summary="NVIDIA container runtime tools",
            depends=(f"libnvidia-container1 (>= {version})", "nvidia-container-toolkit-base"),
            files={"usr/bin/nvidia-container-cli": entry},
        ),
        _base(version, sources),
        Package(
            name="nvidia-container-toolkit",
            version=version,
            repository=TOOLKIT_REPOSITORY,
            summary="NVIDIA container toolkit",
            depends=(
                f"nvidia-container-toolkit-base (= {version})",
                f"libnvidia-container-tools (>= {version})",
            ),
            files={"usr/bin/nvidia-container-runtime-hook": entry},
        ),
    )


def _base(version: str, sources: Sources) -> Package:
    upstream = version.partition("-")[0]
    entry = sources["toolkit/entry.sh"]
    files = {
        "usr/bin/nvidia-ctk": entry,
        "usr/bin/nvidia-container-runtime": entry,
        "usr/bin/nvidia-cdi-hook": entry,
        f"{LAB_DIR}/nvidia_toolkit.py": sources["toolkit/nvidia_toolkit.py"],
        f"{LAB_DIR}/toolkit-version": f"{upstream}\n".encode(),
        "etc/nvidia-container-runtime/config.toml": sources["toolkit/config.toml"],
    }
    scripts: dict[str, bytes] = {}
    if tuple(int(part) for part in upstream.split(".")[:2]) >= FIRST_WITH_CDI_REFRESH:
        files |= {f"{UNIT_DIR}/{unit}": sources[f"toolkit/{unit}"] for unit in REFRESH_UNITS}
        scripts = {name: sources[f"toolkit/base-{name}.sh"] for name in ("postinst", "prerm")}
    return Package(
        name="nvidia-container-toolkit-base",
        version=version,
        repository=TOOLKIT_REPOSITORY,
        summary="NVIDIA container toolkit, base",
        depends=("python3",),
        files=files,
        scripts=scripts,
    )
