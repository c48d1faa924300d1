"""Short questions to the local Docker engine."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

TIMEOUT_S = 30.0
EVENTS_TIMEOUT_S = 5.0

MISSING_HINT = "run `rigup provision` for this host, or use --runtime process"
DENIED_HINT = "log in again if you were just added to the docker group; else run `rigup provision`"
JOB_LABEL = "rigup.job"
LOG_LABEL = "rigup.log"
DIRECT = "direct"
"""Value of :data:`LOG_LABEL`: the program writes into the job's log itself, without Docker."""
INSPECT = '{"state":{{json .State}},"labels":{{json .Config.Labels}}}'


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


Ask = Callable[..., Tuple[int, str]]
"""Like :func:`call_docker`, for questions in words only."""


class DockerSilent(Exception):
    """Docker could not be asked, which says nothing about its containers."""


@dataclass(frozen=True)
class Container:
    """What `docker inspect` shows. ``direct``: see :data:`DIRECT`. ``error``: why Docker could not
    start it."""

    running: bool = False
    status: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    direct: bool = False

    @classmethod
    def from_json(cls, told: Dict[str, Any]) -> Container:
        """Raises ValueError, TypeError or KeyError for what Docker never answers."""
        state, labels = told["state"], told.get("labels") or {}
        return cls(
            running=state.get("Running") is True,
            status=str(state.get("Status", "")),
            exit_code=int(state.get("ExitCode", 0)),
            oom_killed=state.get("OOMKilled") is True,
            error=str(state.get("Error") or ""),
            direct=labels.get(LOG_LABEL) == DIRECT,
        )


@dataclass(frozen=True)
class Engine:
    """``keeps_containers``: they go on while Docker is stopped or restarts (live-restore).
    ``rootless``: the container's root is the login user."""

    keeps_containers: bool
    rootless: bool


def inspect_container(name: str, timeout_s: float = TIMEOUT_S) -> Optional[Container]:
    """None when there is no such container. Raises DockerSilent."""
    words = ("container", "inspect", "--format", INSPECT, name)
    code, said = call_docker(*words, timeout_s=timeout_s)
    if code != 0:
        if "no such container" in said.lower():
            return None
        raise DockerSilent(said)
    try:
        return Container.from_json(json.loads(said))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise DockerSilent("a damaged answer: %s" % said) from None


def remove_containers(job_id: str, timeout_s: float = TIMEOUT_S) -> None:
    """Remove what carries the label of this job, running or not; nothing else. Raises
    DockerSilent, also where something could not be removed."""
    ours = "label=%s=%s" % (JOB_LABEL, job_id)
    code, said = call_docker("ps", "--all", "--quiet", "--filter", ours, timeout_s=timeout_s)
    if code != 0:
        raise DockerSilent(said)
    for found in said.split():
        code, said = call_docker("rm", "--force", "--volumes", found, timeout_s=timeout_s)
        if code != 0 and "no such container" not in said.lower():
            raise DockerSilent(said)


def container_events(name: str, more_s: float) -> List[Dict[str, Any]]:
    """What Docker remembers of a container and will see in the next ``more_s`` seconds, oldest
    first: it forgets all when it restarts. Nothing where it does not answer."""
    until, timeout_s = time.time() + more_s, more_s + EVENTS_TIMEOUT_S
    words = ["events", "--since", "0", "--until", "%.3f" % until]
    words += ["--format", "{{json .}}"]
    words += ["--filter", "type=container", "--filter", "container=%s" % name]
    code, said = call_docker(*words, timeout_s=timeout_s)
    return [] if code != 0 else [event for event in map(_event, said.splitlines()) if event]


def _event(line: str) -> Dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def docker_problem(ask: Ask = call_docker) -> Optional[Tuple[str, str]]:
    """What keeps us from using Docker, and what to do about it; None when it answers."""
    code, said = ask("version", "--format", "{{.Server.Version}}")
    if code == 0:
        return None
    if code == 127:
        return "Docker is not installed on the host", MISSING_HINT
    if "permission denied" in said.lower():
        return "this user may not talk to Docker: %s" % said, DENIED_HINT
    return "Docker does not answer: %s" % said, "check `systemctl status docker` on the host"


def read_engine(timeout_s: float) -> Optional[Engine]:
    """None where Docker does not answer."""
    words = ("info", "--format", "{{.LiveRestoreEnabled}} {{json .SecurityOptions}}")
    code, said = call_docker(*words, timeout_s=timeout_s)
    kept, _, options = said.partition(" ")
    if code != 0 or kept not in ("true", "false"):
        return None
    return Engine(keeps_containers=kept == "true", rootless="rootless" in options)
