"""nvidia-container-toolkit, at or above the security floor, configured into Docker."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from inventory import Host
from provisioner import data
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.daemon_json import KeyConflict, Merge, merge
from provisioner.docker_apply import how_to_read, is_ours, read_actions
from provisioner.docker_config import (
    FIRST_WITH_CDI_07,
    changes_cgroups,
    gpu_access,
    version_of,
)
from provisioner.facts import DOCKER, GPU, OS, PACKAGES, SOURCES, TOOLKIT, Facts
from provisioner.facts.docker import DockerFacts
from provisioner.facts.gpu import GpuFacts
from provisioner.facts.toolkit import CdiSpec, ToolkitFacts
from provisioner.platforms import is_supported, platform_of
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, listed
from provisioner.steps.docker_refusals import conflict, unusable, would_stop
from provisioner.traces import Trace

PACKAGE_NAMES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
"""The four move together (NVIDIA/cloud-native-docs, install-guide.md)."""

LEFTOVER_NAMES = re.compile(r"nvidia-container|nvidia-docker")
REMOVED = PurePosixPath("/var/lib/rigup/removed")
SET_ASIDE = 'mkdir -p -- "$1" && mv -f --backup=numbered -- "$2" "$1/"'
FRESH_SPEC = PurePosixPath("/var/run/cdi/nvidia.yaml")
REFRESH = Command.of("systemctl", "restart", "nvidia-cdi-refresh.service", sudo=True, timeout_s=120)
GENERATE = Command.of(
    "nvidia-ctk", "cdi", "generate", f"--output={FRESH_SPEC}", sudo=True, timeout_s=120
)

Part = tuple[str, tuple[Action, ...]]


class Toolkit:
    name = "toolkit"

    def check(self, facts: Facts, host: Host) -> Outcome:
        if not facts[GPU].present:
            return Satisfied("no NVIDIA GPU, no toolkit needed")
        docker = facts[DOCKER]
        if refusal := unusable(docker) or _not_ours(docker):
            return refusal
        try:
            wanted = merge(docker.daemon_json or {}, gpu_access(docker))
        except KeyConflict as error:
            return conflict(error, "GPUs that stay in containers")
        packages = [*_installation(facts, host), *_holds(facts), *_specifications(facts)]
        configuration = _configuration(docker, wanted, _why_install(facts) is not None)
        if isinstance(configuration, Blocked):
            return configuration
        parts = [*packages, *configuration]
        reasons = [reason for reason, _ in parts]
        if parts:
            return Change(listed(reasons), tuple(action for _, some in parts for action in some))
        note = _cdi_note(docker, facts[TOOLKIT])
        return Satisfied(
            f"toolkit {facts[TOOLKIT].version}, runtime nvidia configured in Docker{note}"
        )


def _not_ours(docker: DockerFacts) -> Blocked | None:
    """An engine that systemd's docker.service does not start is configured by whoever starts it."""
    if is_ours(docker) or "nvidia" in docker.runtimes:
        return None
    if docker.rootless:
        return Blocked(
            "Docker runs rootless, with a configuration of its user's own",
            "as that user: nvidia-ctk runtime configure --runtime=docker "
            "--config=$HOME/.config/docker/daemon.json; systemctl --user restart docker; as root: "
            "nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place",
        )
    return Blocked(
        "Docker does not know the nvidia runtime, and it runs without docker.service",
        "nvidia-ctk runtime configure --runtime=docker, then start dockerd again as it was started",
    )


def _installation(facts: Facts, host: Host) -> list[Part]:
    reason = _why_install(facts)
    if reason is None:
        return []
    os = facts[OS]
    platform = platform_of(os)
    source = platform.vendor_source("container_toolkit", os, host)
    held = [name for name in PACKAGE_NAMES if name in facts[PACKAGES].held]
    actions = (
        *(_set_aside(path) for path in facts[SOURCES].leftovers if LEFTOVER_NAMES.search(path)),
        *platform.source_actions(source, facts),
        *(platform.release(*held) if held else ()),
        *platform.install(*PACKAGE_NAMES),
        *platform.hold(*PACKAGE_NAMES),
    )
    return [(reason, actions)]


def _why_install(facts: Facts) -> str | None:
    version, floor = facts[TOOLKIT].version, data.load("drivers")["toolkit_floor"]
    installed = _packages(facts)
    if version is None:
        return "the toolkit is not installed"
    if _key(version) < _key(floor):
        return f"toolkit {version} is below {floor}, which fixes CVE-2026-24260"
    if len(set(installed.values())) > 1:
        told = ", ".join(f"{name} {found}" for name, found in installed.items())
        return f"the toolkit's packages are of several versions: {told}"
    missing = [name for name in PACKAGE_NAMES if name not in installed]
    if installed and missing:
        return f"of the toolkit's packages {', '.join(missing)} is missing"
    return None


def _holds(facts: Facts) -> list[Part]:
    """Packages that are installed already; those of an installation are held with it."""
    if _why_install(facts) is not None or set(PACKAGE_NAMES) - set(_packages(facts)):
        return []
    loose = [name for name in PACKAGE_NAMES if name not in facts[PACKAGES].held]
    if not loose or not is_supported(facts[OS]):
        return []
    hold = platform_of(facts[OS]).hold(*loose)
    return [("the toolkit's packages may be upgraded apart from each other", hold)]


def _packages(facts: Facts) -> dict[str, str]:
    """Without epochs, which these packages do not have, and other packages."""
    versions = facts[PACKAGES].versions
    return {name: versions[name] for name in PACKAGE_NAMES if name in versions}


def _specifications(facts: Facts) -> list[Part]:
    """Stale CDI specifications go, and a fresh one is made where none is left."""
    toolkit, gpu = facts[TOOLKIT], facts[GPU]
    if not gpu.gpus or toolkit.version is None or _why_install(facts) is not None:
        return []
    stale = [spec for spec in toolkit.cdi if _is_stale(spec, gpu)]
    shadows = [spec for spec in toolkit.cdi if spec not in stale and _is_doubled(spec, toolkit)]
    gone = [spec for spec in (*stale, *shadows) if not _is_refreshed(spec)]
    reasons = [
        f"{spec.path} is for driver {', '.join(spec.drivers)}, not {gpu.module_version}"
        for spec in stale
    ] + [f"{spec.path} stands beside {FRESH_SPEC} and would outlive it" for spec in shadows]
    actions: list[Action] = [_set_aside(spec.path) for spec in gone]
    rest = [spec for spec in toolkit.cdi if spec not in (*stale, *gone)]
    if not rest:
        if not reasons:
            reasons = ["there is no CDI specification of the GPUs"]
        actions.append(Run(REFRESH if toolkit.refreshes else GENERATE))
    return [(listed(reasons), tuple(actions))] if reasons else []


def _is_stale(spec: CdiSpec, gpu: GpuFacts) -> bool:
    """It names libraries, but none of the driver that is loaded."""
    return bool(spec.drivers) and gpu.module_version not in spec.drivers


def _is_doubled(spec: CdiSpec, toolkit: ToolkitFacts) -> bool:
    """Made by hand where the toolkit makes one by itself."""
    fresh = any(_is_refreshed(other) for other in toolkit.cdi)
    return fresh and not _is_refreshed(spec) and PurePosixPath(spec.path).stem == FRESH_SPEC.stem


def _is_refreshed(spec: CdiSpec) -> bool:
    return PurePosixPath(spec.path) == FRESH_SPEC


def _set_aside(path: str) -> Action:
    """Nothing of an admin's is deleted."""
    return Run(
        Command.sh(SET_ASIDE, str(REMOVED), path, sudo=True),
        f"move {path} to {REMOVED}",
        traces=(Trace("command", f"moved {path} to {REMOVED}"),),
    )


def _configuration(docker: DockerFacts, wanted: Merge, installing: bool) -> list[Part] | Blocked:
    """dockerd looks for the toolkit's hook when it starts, so new packages need a restart too."""
    if not is_ours(docker):
        return []
    reasons = _why_configure(docker, wanted)
    if installing and not reasons:
        reasons = ["Docker must see the toolkit's hook"]
    if not reasons:
        return []
    how = how_to_read(docker, wanted)
    if how is None:
        return would_stop(docker, listed(reasons), moves=changes_cgroups(docker, wanted.content))
    return [(listed(reasons), read_actions(docker, wanted, how))]


def _why_configure(docker: DockerFacts, wanted: Merge) -> list[str]:
    reasons: list[str] = []
    if "nvidia" not in docker.runtimes:
        reasons.append("Docker does not know the nvidia runtime")
    others = [wish for wish in wanted.added if wish.path[0] not in ("runtimes", "live-restore")]
    if others:
        reasons.append(f"daemon.json lacks {', '.join(wish.key for wish in others)}")
    unread = docker.unread or changes_cgroups(docker, wanted.content)
    if unread and not reasons:
        reasons.append("Docker has not read all of its configuration")
    return reasons


def _cdi_note(docker: DockerFacts, toolkit: ToolkitFacts) -> str:
    """Toolkit 1.19.1 and newer write CDI specification 0.7.0 (toolkit issue 1940)."""
    newest = max((_key(spec.version) for spec in toolkit.cdi if spec.version), default=())
    version = version_of(docker)
    if not version or version >= FIRST_WITH_CDI_07 or newest < (0, 7):
        return ""
    return (
        f"; Docker {docker.server_version} cannot read CDI specification 0.7.0: use --gpus, not "
        "--device nvidia.com/gpu"
    )


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
