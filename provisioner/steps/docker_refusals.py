"""Where only a person can go on with Docker's configuration."""

from __future__ import annotations

from provisioner import daemon_json
from provisioner.facts.docker import DockerFacts
from provisioner.steps.base import Blocked


def would_stop(docker: DockerFacts, reason: str, *, moves: bool = False) -> Blocked:
    """The refusal to restart Docker for ``reason``. Live-restore keeps containers over a restart,
    but not over one that ``moves`` them to other cgroups, and not with swarm mode."""
    names = ", ".join(docker.running) or "see docker ps"
    spare = (
        '; or set "live-restore": true in /etc/docker/daemon.json and run systemctl reload docker, '
        "which stops nothing"
    )
    helps = not (moves or docker.live_restore or docker.swarm)
    return Blocked(
        f"{reason}; Docker must restart for it, which would stop {docker.containers_running} "
        f"running container(s): {names}",
        f"stop them, then provision again{spare if helps else ''}",
    )


def unusable(docker: DockerFacts) -> Blocked | None:
    """Where daemon.json cannot be merged, or would not be read."""
    if docker.config_file not in (None, daemon_json.PATH):
        return Blocked(
            f"dockerd reads {docker.config_file} (--config-file), not {daemon_json.PATH}",
            f"move it to {daemon_json.PATH} and take --config-file out of dockerd's command line "
            "(systemctl cat docker), then provision again",
        )
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
