"""Docker: does the engine answer, will it after a boot, does it know the GPUs?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from provisioner.doctor.finding import Finding
from provisioner.doctor.probes.docker_access import DOCKER_ACCESS, GROUP
from provisioner.doctor.probes.docker_journal import DOCKER_JOURNAL, DockerJournalFacts
from provisioner.doctor.probes.docker_settings import DOCKER_SETTINGS
from provisioner.doctor.scan import scan_lines
from provisioner.doctor.situation import Situation, found
from provisioner.facts import DOCKER, GPU, LOGIN, TOOLKIT, FactUnreadable
from provisioner.facts.docker import DockerFacts

RUNNING = "API listen on"
COMPLAINTS = ("level=fatal", "unable to configure", "failed to start")


def look(situation: Situation) -> Iterator[Finding]:
    docker = situation.facts[DOCKER]
    if docker.snap:
        yield found(
            "docker-snap",
            "problem",
            "docker",
            "Docker is a snap, which cannot give containers GPUs",
            evidence="/snap/docker",
            where="host",
            fix=f"sudo snap remove docker, then {situation.provision}",
            source="NVIDIA/nvidia-docker#1034",
        )
    if not docker.installed:
        return
    yield from _settings(situation, docker)
    yield from _silent(situation, docker)
    yield from _without_gpus(situation, docker)
    if docker.active and not docker.enabled and not docker.snap:
        yield found(
            "docker-not-enabled",
            "warning",
            "docker",
            "Docker will not start at the next boot",
            evidence="docker.service is not enabled",
            where="systemd",
            fix="sudo systemctl enable docker.service",
        )


def look_at_access(situation: Situation) -> Iterator[Finding]:
    """The login user and Docker's socket. Root, and whoever runs rootless Docker, need no group."""
    access, login = situation.facts[DOCKER_ACCESS], situation.facts[LOGIN]
    if not access.installed or login.is_root or access.writable or situation.facts[DOCKER].rootless:
        return
    if not access.member:
        yield found(
            "docker-not-for-user",
            "problem",
            "docker",
            f"{login.user} may not use Docker: containers and container jobs fail",
            evidence=f"{login.user} is not in the group {GROUP}",
            where="/etc/group",
            fix=f"{situation.provision}; by hand, sudo gpasswd -a {login.user} {GROUP}, then "
            "log in again",
        )
    elif access.session is False:
        yield found(
            "docker-not-in-session",
            "warning",
            "docker",
            f"this login session is older than the membership of {login.user} in {GROUP}",
            evidence="id -G lacks the group",
            where="login session",
            fix="end shared SSH connections (ssh -O exit HOST) and log in again",
        )
    elif access.manager is False:
        yield found(
            "docker-not-in-user-manager",
            "warning",
            "docker",
            f"the service manager of {login.user} is older than the membership in {GROUP}: queued "
            "container jobs that it starts fail",
            evidence="its process lacks the group",
            where="user@.service",
            fix=f"when none of its jobs runs, sudo systemctl restart user@$(id -u {login.user})",
        )


def _settings(situation: Situation, docker: DockerFacts) -> Iterator[Finding]:
    """A running engine has read them before: a broken file only shows at its next start."""
    complaint = docker.daemon_error
    if complaint is None:
        with suppress(FactUnreadable):
            complaint = situation.facts[DOCKER_SETTINGS].complaint
    if complaint:
        yield found(
            "docker-settings-invalid",
            "problem",
            "docker",
            "Docker's settings are invalid: the engine does not start with them",
            evidence=complaint,
            where="/etc/docker/daemon.json",
            fix="repair the file; sudo dockerd --validate --config-file=/etc/docker/daemon.json "
            "checks it",
        )


def look_at_journal(situation: Situation) -> Iterator[Finding]:
    """Known failures that dockerd wrote down. While it runs they may be over: no problems."""
    journal = situation.facts[DOCKER_JOURNAL]
    complaint = _last_complaint(journal)
    if journal.state == "failed" or (journal.state == "activating" and complaint):
        yield found(
            "docker-failed",
            "problem",
            "docker",
            "Docker's engine does not start",
            evidence=complaint or "docker.service has failed",
            where="Docker's journal",
            fix="repair what it complains about (/etc/docker/daemon.json must be valid JSON), then "
            "sudo systemctl reset-failed docker && sudo systemctl start docker",
        )
    for one in scan_lines(journal.lines, "Docker's journal"):
        over = one.severity == "problem" and journal.state == "active"
        yield replace(one, severity="warning") if over else one


def _silent(situation: Situation, docker: DockerFacts) -> Iterator[Finding]:
    if docker.server_version is not None:
        return
    yield found(
        "docker-silent",
        "problem",
        "docker",
        "Docker is installed and no engine answers",
        evidence=docker.error or "no answer",
        where="docker info",
        fix="sudo systemctl start docker; journalctl -u docker -n 50 says why it does not",
    )


def _last_complaint(journal: DockerJournalFacts) -> str:
    """Since the engine last ran: the most telling kind of line, and of those the last."""
    running = [place for place, line in enumerate(journal.lines) if RUNNING in line]
    lines = journal.lines[running[-1] + 1 if running else 0 :]
    for sign in COMPLAINTS:
        said = [line for line in lines if sign in line.lower()]
        if said:
            return said[-1]
    return ""


def _without_gpus(situation: Situation, docker: DockerFacts) -> Iterator[Finding]:
    toolkit = situation.facts[TOOLKIT]
    if docker.server_version is None or not situation.facts[GPU].present:
        return
    if toolkit.version is None or "nvidia" in docker.runtimes:
        return
    yield found(
        "docker-without-nvidia-runtime",
        "problem",
        "docker",
        "the container toolkit is installed and Docker does not know its runtime",
        evidence=f"runtimes: {', '.join(docker.runtimes) or 'none'}",
        where="docker info",
        fix=f"{situation.provision}; by hand, sudo nvidia-ctk runtime configure --runtime=docker "
        "and sudo systemctl restart docker",
        source="CND install guide",
    )
