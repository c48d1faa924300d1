"""Which driver a host shall get and from where, and what of one is installed already. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from inventory import Host
from provisioner import data
from provisioner.errors import BlockedError
from provisioner.facts import GPU, KERNEL, OS, PACKAGES, Facts
from provisioner.hardware import DriverChoice, choose_driver
from provisioner.platforms import platform_of


@dataclass(frozen=True)
class DriverPlan:
    """``source`` is vendor or distro; ``packages``: their presence means that it is installed.
    ``signed``: the modules are prebuilt and signed by the distribution."""

    choice: DriverChoice
    source: str
    packages: tuple[str, ...]
    signed: bool


def plan_driver(facts: Facts, host: Host) -> DriverPlan:
    """Raises BlockedError when no driver of that source drives all GPUs of the host."""
    source = source_of(facts, host)
    archive = _archive(facts)
    if source == "distro" and archive is not None:
        choice = _choose_from(archive, facts, host)
    else:
        choice = choose_driver(facts[GPU].own, host.driver_branch)
    return DriverPlan(
        choice,
        source,
        platform_of(facts[OS]).driver_packages(choice, source),
        signed=source == "distro" and signed_modules_offered(facts),
    )


def source_of(facts: Facts, host: Host) -> str:
    """``auto`` stays with the source of what is installed; a fresh host gets NVIDIA's repository,
    or signed modules of its own archive where Secure Boot would refuse others."""
    if host.driver_source != "auto":
        return host.driver_source
    installed = installed_source(facts[PACKAGES].versions)
    if installed is not None:
        return installed
    return "distro" if signed_modules_offered(facts) and unsigned_refused(facts) else "vendor"


def signed_modules_offered(facts: Facts) -> bool:
    """Does the distribution's archive have prebuilt modules that Secure Boot takes?"""
    return bool((_archive(facts) or {}).get("signed_modules"))


def unsigned_refused(facts: Facts) -> bool:
    """Would the kernel refuse a module that is built on the host?"""
    kernel = facts[KERNEL]
    return bool(kernel.secure_boot) and not kernel.mok_enrolled


def installed_source(versions: Mapping[str, str]) -> str | None:
    """Where installed driver packages (name -> version) came from: vendor, distro, None where
    neither names nor revisions tell."""
    table = data.load("drivers")["packages"]
    for source in ("vendor", "distro"):
        if any(_matches(name, table[source]) for name in versions):
            return source
    revised = (versions[name] for name in driver_parts(versions))
    return "distro" if any(table["distro_revision"] in version for version in revised) else None


def driver_parts(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the installed packages that belong to a driver, in order."""
    table = data.load("drivers")["packages"]
    return tuple(
        sorted(
            name
            for name in names
            if _matches(name, table["driver"]) and not _matches(name, table["other"])
        )
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _archive(facts: Facts) -> dict[str, Any] | None:
    os = facts[OS]
    row: dict[str, Any] | None = data.load("drivers")["archives"].get(f"{os.id} {os.version}")
    return row


def _choose_from(archive: dict[str, Any], facts: Facts, host: Host) -> DriverChoice:
    name, branches = facts[OS].pretty_name, archive["branches"]
    branch = host.driver_branch or branches[0]
    if branch not in branches:
        raise BlockedError(
            f"{name}'s own archive holds branch {' and '.join(branches)}, not {branch}",
            remedy="set driver_source: vendor in the inventory",
        )
    try:
        choice = choose_driver(facts[GPU].own, branch)
    except BlockedError as error:
        raise BlockedError(
            f"{error.message} ({name}'s own archive holds no other)",
            remedy="set driver_source: vendor in the inventory",
        ) from error
    if choice.flavour not in archive["flavours"]:
        raise BlockedError(
            f"{name}'s own archive has no usable {choice.flavour} modules ({choice.why})",
            remedy="set driver_source: vendor in the inventory",
        )
    return choice
