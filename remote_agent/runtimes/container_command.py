"""The exact `docker run` of a job, and the environment that must not show in it."""

from __future__ import annotations

import os
from typing import Dict, List, Tuple

from remote_agent.docker import DIRECT, JOB_LABEL, LOG_LABEL
from remote_agent.layout import JobPaths
from remote_agent.protocol.job import JobSpec
from remote_agent.runtimes.base import Gpu, container_name
from remote_agent.workspace import own_variables, working_directory

SHELL = "/bin/sh"
LOG_IN_CONTAINER = "/.rigup-log"
STARTER = "rigup-start"
"""What the shell in the container calls itself in its own error messages."""
INTO_LOG = 'exec "$@" >>%s 2>&1' % LOG_IN_CONTAINER
PULL = (
    'docker image inspect "$2" >/dev/null 2>&1 || docker pull "$2" >>"$1" 2>&1 || exit 125\n'
    'shift 2; exec "$@"'
)
"""Run by the host's sh. An image that is not there is pulled first, and its progress is shown in
the job's log; what the client says afterwards is not the program's and goes elsewhere."""


def container_environment(spec: JobSpec, paths: JobPaths, gpus: Tuple[Gpu, ...]) -> Dict[str, str]:
    """What the program sees beyond the image's own. USER and LOGNAME stand in for the missing
    passwd entry, which getpass (and so torch's compile cache) would stumble over."""
    user = os.environ.get("USER") or "rigup"
    return {
        "HOME": paths.home,
        "USER": user,
        "LOGNAME": user,
        "PYTHONUNBUFFERED": "1",
        **spec.env,
        **own_variables(spec, paths, gpus),
    }


def run_command(
    spec: JobSpec,
    paths: JobPaths,
    gpus: Tuple[Gpu, ...],
    env_file: str,
    inherited: Tuple[str, ...] = (),
    *,
    cid_file: str,
    direct: bool = True,
    rootless: bool = False,
) -> List[str]:
    """The image's entrypoint is replaced, so that argv runs as it is. ``direct``: by way of the
    image's own shell, which leads both outputs into the job's log and becomes the program.

    No log driver: the log is written by the program or by the client, and Docker would keep a
    second copy that grows.
    """
    words = ["docker", "run", "--name", container_name(spec.job_id), "--cidfile", cid_file]
    words += ["--label", "%s=%s" % (JOB_LABEL, spec.job_id), "--init", "--log-driver", "none"]
    words += ["--sig-proxy=false", "--stop-signal", "SIGTERM"]
    for place in (paths.work, paths.outputs, paths.home):
        words += ["--mount", "type=bind,source=%s,target=%s" % (place, place)]
    if direct:
        words += ["--label", "%s=%s" % (LOG_LABEL, DIRECT)]
        words += ["--mount", "type=bind,source=%s,target=%s" % (paths.log, LOG_IN_CONTAINER)]
    words += ["--workdir", working_directory(spec, paths), "--env-file", env_file]
    if not rootless:
        words += ["--user", "%d:%d" % (os.geteuid(), os.getegid())]
        for group in sorted(set(os.getgroups()) - {os.getegid()}):
            words += ["--group-add", str(group)]
    for name in inherited:
        words += ["--env", name]
    if gpus:
        words += ["--gpus", '"device=%s"' % ",".join(gpu.uuid for gpu in gpus)]
    for mount in spec.mounts:
        words += ["--volume", mount]
    if spec.shm_size:
        words += ["--shm-size", spec.shm_size]
    entrypoint, arguments = spec.argv[0], list(spec.argv[1:])
    if direct:
        entrypoint, arguments = SHELL, ["-c", INTO_LOG, STARTER, *spec.argv]
    return [*words, "--entrypoint", entrypoint, str(spec.image), *arguments]


def pulling(command: List[str], spec: JobSpec, paths: JobPaths) -> List[str]:
    """The command behind :data:`PULL`."""
    return ["sh", "-c", PULL, "sh", paths.log, str(spec.image), *command]
