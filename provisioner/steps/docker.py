"""A Docker engine that answers, starts at boot, keeps house, and that the login user may use.

Whoever is in the group ``docker`` can become root on the host: that is what the group means.
"""

from __future__ import annotations

from inventory import Host
from provisioner.actions import Action, Run
from provisioner.command import Command
from provisioner.containerd_toml import ConfigureContainerd, containerd_action
from provisioner.daemon_json import KeyConflict, Merge, merge
from provisioner.docker_apply import how_to_read, is_ours, read_actions
from provisioner.docker_config import changes_cgroups, housekeeping
from provisioner.facts import DOCKER, LOGIN, OS, Facts
from provisioner.facts.docker import DockerFacts
from provisioner.platforms import docker_source, platform_of
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, listed
from provisioner.steps.docker_refusals import conflict, unusable, would_stop
from provisioner.traces import Trace

UNIT = "docker.service"
START = (
    "systemctl reset-failed docker.service 2>/dev/null; "  # else: "attempted too often"
    "systemctl enable --now docker.service"
)


class Docker:
    """Any engine that is installed already is kept, whatever its source."""

    name = "docker"

    def check(self, facts: Facts, host: Host) -> Outcome:
        docker = facts[DOCKER]
        refusal = _foreign(docker) or unusable(docker) or _data_elsewhere(docker, host)
        if refusal is not None:
            return refusal
        try:
            configuration = _configuration(docker, host)
        except KeyConflict as error:
            return conflict(error, "logs that rotate, and containers that survive a restart")
        if isinstance(configuration, Blocked):
            return configuration
        reasons: list[str] = []
        actions: list[Action] = []
        for reason, needed in (
            *configuration,
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


def _foreign(docker: DockerFacts) -> Blocked | None:
    if docker.snap:
        return Blocked(
            "Docker is installed as a snap, which cannot reach the NVIDIA runtime",
            "sudo snap remove docker, then provision again",
        )
    if docker.podman:
        return Blocked(
            "the command docker is podman's stand-in (package podman-docker), not Docker",
            "remove the package podman-docker (podman itself may stay), then provision again",
        )
    return None


def _data_elsewhere(docker: DockerFacts, host: Host) -> Blocked | None:
    """Docker would not see what it has where it is now."""
    wanted = host.docker_data_root
    if wanted is None or docker.root in (None, wanted):
        return None
    told = (docker.daemon_json or {}).get("data-root")
    if told is not None or "data-root" in docker.flags:
        return Blocked(
            f"Docker's data-root is set to {docker.root}, the inventory wants {wanted}",
            "change one of them: data-root in /etc/docker/daemon.json (or dockerd's command line) "
            "or docker_data_root in the inventory",
        )
    if not docker.images and not docker.containers:
        return None
    return Blocked(
        f"Docker keeps {docker.images} image(s) and {docker.containers} container(s) in "
        f"{docker.root}, the inventory wants its data in {wanted}",
        f"move them (systemctl stop docker.socket docker; rsync -aHAX {docker.root}/ {wanted}/; "
        f'set "data-root": "{wanted}" in /etc/docker/daemon.json; systemctl start docker) or '
        "remove them (docker system prune --all), then provision again",
    )


def _images_elsewhere(docker: DockerFacts, wanted: str) -> Blocked:
    return Blocked(
        f"containerd keeps {docker.images} image(s) of {docker.containers} container(s) elsewhere "
        f"than in {wanted}",
        "remove them (docker system prune --all), or move containerd's root there with Docker and "
        "containerd stopped and set root in /etc/containerd/config.toml; then provision again",
    )


def _configuration(docker: DockerFacts, host: Host) -> list[Part] | Blocked:
    """Before the engine is installed, so that it starts with it."""
    if not is_ours(docker):
        return []
    wanted = merge(docker.daemon_json or {}, housekeeping(docker, host))
    containerd = containerd_action(docker, host)
    if not wanted.added and not docker.unread and containerd is None:
        return []
    if containerd is not None and (docker.images or docker.containers):
        return _images_elsewhere(docker, containerd.root)
    reason = _reason(wanted, containerd)
    how = how_to_read(docker, wanted)
    if how is None:
        return would_stop(docker, reason, moves=changes_cgroups(docker, wanted.content))
    first = () if containerd is None else (containerd,)
    return [(reason, (*first, *read_actions(docker, wanted, how)))]


def _reason(wanted: Merge, containerd: ConfigureContainerd | None) -> str:
    if wanted.added:
        return f"daemon.json lacks {', '.join(wish.key for wish in wanted.added)}"
    if containerd is not None:
        return f"containerd keeps images elsewhere than in {containerd.root}"
    return "Docker has not read all of its configuration"


def _engine(docker: DockerFacts, facts: Facts, host: Host) -> list[Part]:
    if docker.installed:
        return []
    os = facts[OS]
    platform = platform_of(os)
    actions: list[Action] = []
    wanted = docker_source(platform, host)
    if wanted == "vendor":
        source = platform.vendor_source("docker", os, host)
        actions.extend(platform.source_actions(source, facts))
    actions.extend(platform.install(*platform.docker_packages(os, wanted)))
    return [(f"Docker is not installed (source: {wanted})", tuple(actions))]


def _service(docker: DockerFacts) -> list[Part]:
    if docker.active and docker.enabled and docker.error is None:
        return []
    if docker.server_version and not docker.active:
        return []  # an engine that answers without its unit (rootless, or started by hand)
    reason = f"Docker does not answer ({docker.error})" if docker.error else "Docker is not started"
    start = Command.sh(START, sudo=True, timeout_s=180)
    return [(reason, (Run(start, traces=(Trace("unit", UNIT),)),))]


def _membership(facts: Facts) -> list[Part]:
    """By gpasswd(1): usermod(8) refuses users of a directory service, whom /etc/passwd lacks."""
    login = facts[LOGIN]
    if login.is_root or "docker" in login.groups:
        return []
    join = Command.of("gpasswd", "-a", login.user, "docker", sudo=True)
    trace = Trace("group-member", login.user, "docker")
    return [(f"{login.user} is not in the docker group", (Run(join, traces=(trace,)),))]
