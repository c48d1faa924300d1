"""Docker: does the engine answer, will it after a boot, does it know the GPUs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from provisioner.doctor.finding import Finding
from provisioner.doctor.probes.docker_journal import DOCKER_JOURNAL, DockerJournalFacts
from provisioner.doctor.scan import scan_lines
from provisioner.doctor.situation import Situation, found
from provisioner.facts import DOCKER, GPU, TOOLKIT
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
