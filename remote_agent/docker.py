"""Short questions to the local Docker engine."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Dict, Optional, Tuple

TIMEOUT_S = 30.0

MISSING_HINT = "run `rigup provision` for this host, or use --runtime process"
DENIED_HINT = "log in again if you were just added to the docker group; else run `rigup provision`"


def call_docker(*words: str, timeout_s: float = TIMEOUT_S) -> Tuple[int, str]:
    """Exit code and output (stderr where stdout is empty); 127 without the program and 124
    without an answer in time."""
    try:
        done = subprocess.run(
            ("docker", *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        return 127, str(error)
    except subprocess.TimeoutExpired:
        return 124, "docker did not answer within %g s" % timeout_s
    return done.returncode, (done.stdout.strip() or done.stderr).decode("utf-8", "replace").strip()


class DockerSilent(Exception):
    """Docker could not be asked, which says nothing about its containers."""


def container_state(name: str, timeout_s: float = TIMEOUT_S) -> Optional[Dict[str, Any]]:
    """What `docker inspect` shows as .State; None when there is no such container. Raises
    DockerSilent."""
    words = ("container", "inspect", "--format", "{{json .State}}", name)
    code, said = call_docker(*words, timeout_s=timeout_s)
    if code != 0:
        if "no such container" in said.lower():
            return None
        raise DockerSilent(said)
    try:
        state: Dict[str, Any] = json.loads(said)
    except ValueError:
        raise DockerSilent("a damaged answer: %s" % said) from None
    return state


def docker_problem() -> Optional[Tuple[str, str]]:
    """What keeps us from using Docker, and what to do about it; None when it answers."""
    code, said = call_docker("version", "--format", "{{.Server.Version}}")
    if code == 0:
        return None
    if code == 127:
        return "Docker is not installed on the host", MISSING_HINT
    if "permission denied" in said.lower():
        return "this user may not talk to Docker: %s" % said, DENIED_HINT
    return "Docker does not answer: %s" % said, "check `systemctl status docker` on the host"


def is_rootless() -> bool:
    """A rootless engine maps the container's root to the login user."""
    code, said = call_docker("info", "--format", "{{json .SecurityOptions}}")
    return code == 0 and "rootless" in said
