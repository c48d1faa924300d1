"""nvidia-container-toolkit, at or above the security floor, configured into Docker."""

from __future__ import annotations

from inventory import Host
from provisioner import data
from provisioner.actions import Action, commands
from provisioner.command import Command
from provisioner.facts import DOCKER, GPU, OS, TOOLKIT, Facts
from provisioner.facts.docker import DockerFacts
from provisioner.platforms import platform_of
from provisioner.steps.base import (
    Blocked,
    Change,
    Outcome,
    Satisfied,
    listed,
)

PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
"""The four move together (NVIDIA/cloud-native-docs, install-guide.md)."""

CONFIGURE = Command.of("nvidia-ctk", "runtime", "configure", "--runtime=docker", sudo=True)
RESTART = Command.of("systemctl", "restart", "docker.service", sudo=True, timeout_s=180)


class Toolkit:
    name = "toolkit"

    def check(self, facts: Facts, host: Host) -> Outcome:
        if not facts[GPU].pci and not facts[GPU].gpus:
            return Satisfied("no NVIDIA GPU, no toolkit needed")
        docker, version = facts[DOCKER], facts[TOOLKIT].version
        reasons: list[str] = []
        actions: list[Action] = []
        floor = data.load("drivers")["toolkit_floor"]
        if version is None or _key(version) < _key(floor):
            reasons.append(
                "the toolkit is not installed"
                if version is None
                else f"toolkit {version} is below {floor}, which fixes CVE-2026-24260"
            )
            actions.extend(_installation(facts, host))
        if "nvidia" not in docker.runtimes:
            reasons.append("Docker does not know the nvidia runtime")
            actions.extend(commands(CONFIGURE))
        if not reasons:
            return Satisfied(f"toolkit {version}, runtime nvidia configured in Docker")
        return _with_restart(docker, reasons, actions)


def _installation(facts: Facts, host: Host) -> tuple[Action, ...]:
    os = facts[OS]
    platform = platform_of(os)
    source = platform.vendor_source("container_toolkit", os, host)
    return (*platform.source_actions(source, facts), *platform.install(*PACKAGES))


def _with_restart(docker: DockerFacts, reasons: list[str], actions: list[Action]) -> Outcome:
    live_restore = bool((docker.daemon_json or {}).get("live-restore"))
    if docker.containers_running and not live_restore:
        return Blocked(
            f"{listed(reasons)}; Docker must restart for it, which would stop "
            f"{docker.containers_running} running container(s)",
            "stop the containers, or set live-restore in /etc/docker/daemon.json",
        )
    return Change(listed(reasons), (*actions, *commands(RESTART)))


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
