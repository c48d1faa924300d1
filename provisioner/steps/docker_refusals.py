"""Where only a person can go on with Docker's configuration."""

from __future__ import annotations

from provisioner import daemon_json
from provisioner.facts.docker import DockerFacts
from provisioner.steps.base import Blocked


def would_stop(docker: DockerFacts, reason: str) -> Blocked:
    """The refusal to restart Docker for ``reason``."""
    names = ", ".join(docker.running) or "see docker ps"
    return Blocked(
        f"{reason}; Docker must restart for it, which would stop {docker.containers_running} "
        f"running container(s): {names}",
        'stop them; or set "live-restore": true in /etc/docker/daemon.json and run systemctl '
        "reload docker, which stops nothing",
    )


def malformed(docker: DockerFacts) -> Blocked | None:
    if docker.daemon_error is None:
        return None
    return Blocked(
        f"{daemon_json.PATH} is not valid: {docker.daemon_error}",
        "correct it there (Docker itself cannot read it either), then provision again",
    )


def conflict(error: daemon_json.KeyConflict, why: str) -> Blocked:
    return Blocked(
        f"{daemon_json.PATH}: {error}, which excludes what rigup needs ({why})",
        f"change or remove {error.key} there, then provision again",
    )
