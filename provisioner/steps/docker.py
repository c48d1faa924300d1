"""A Docker engine that answers, starts at boot and that the login user may use."""

from __future__ import annotations

from inventory import Host
from provisioner.actions import Action, commands
from provisioner.command import Command
from provisioner.facts import DOCKER, LOGIN, OS, Facts
from provisioner.facts.docker import DockerFacts
from provisioner.platforms import platform_of
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, listed


class Docker:
    """Any engine that is installed already is kept, whatever its source."""

    name = "docker"

    def check(self, facts: Facts, host: Host) -> Outcome:
        docker = facts[DOCKER]
        if docker.snap:
            return Blocked(
                "Docker is installed as a snap, which cannot reach the NVIDIA runtime",
                "sudo snap remove docker, then provision again",
            )
        reasons: list[str] = []
        actions: list[Action] = []
        for reason, needed in (
            *_engine(docker, facts, host),
            *_service(docker),
            *_membership(facts),
        ):
            reasons.append(reason)
            actions.extend(needed)
        if reasons:
            return Change(listed(reasons), tuple(actions))
        return Satisfied(f"Docker {docker.server_version} answers")


Part = tuple[str, tuple[Action, ...]]


def _engine(docker: DockerFacts, facts: Facts, host: Host) -> list[Part]:
    if docker.installed:
        return []
    os = facts[OS]
    platform = platform_of(os)
    actions: list[Action] = []
    if host.docker_source == "vendor":
        source = platform.vendor_source("docker", os, host)
        actions.extend(platform.source_actions(source, facts))
    actions.extend(platform.install(*platform.docker_packages(os, host.docker_source)))
    return [(f"Docker is not installed (source: {host.docker_source})", tuple(actions))]


def _service(docker: DockerFacts) -> list[Part]:
    if docker.active and docker.enabled and docker.error is None:
        return []
    if docker.server_version and not docker.active:
        return []  # an engine that answers without its unit (rootless, or started by hand)
    reason = f"Docker does not answer ({docker.error})" if docker.error else "Docker is not started"
    start = Command.of("systemctl", "enable", "--now", "docker.service", sudo=True, timeout_s=180)
    return [(reason, commands(start))]


def _membership(facts: Facts) -> list[Part]:
    login = facts[LOGIN]
    if login.is_root or "docker" in login.groups:
        return []
    join = Command.of("usermod", "-aG", "docker", login.user, sudo=True)
    return [(f"{login.user} is not in the docker group", commands(join))]
