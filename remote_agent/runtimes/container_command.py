"""The exact `docker run` of a job, and the environment that must not show in it."""

from __future__ import annotations

import os
from typing import Dict, List, Tuple

from remote_agent.docker import DIRECT, JOB_LABEL, LOG_LABEL
from remote_agent.layout import JobPaths
from remote_agent.protocol.job import JobSpec, is_made_by_rigup
from remote_agent.runtimes.base import Gpu, container_name
from remote_agent.workspace import own_variables, working_directory

SHELL = "/bin/sh"
LOG_IN_CONTAINER = "/.rigup-log"
STARTER = "rigup-start"
"""What the shell in the container calls itself in its own error messages."""
INTO_LOG = 'exec "$@" >>%s 2>&1' % LOG_IN_CONTAINER
PYTHON_INTO_LOG = """
import os, signal, sys
try:
    log = os.open("%s", os.O_WRONLY | os.O_APPEND)
except OSError as error:
    sys.exit("%s: %%s" %% error)
os.dup2(log, 1)
os.dup2(log, 2)
for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(ignored, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
""" % (LOG_IN_CONTAINER, STARTER)
"""The same for Python, which ignores two signals."""
BY_SHELL, BY_PYTHON, ATTACHED = "shell", "python", "attached"
"""Who leads the program's output into the log: the image's shell, its Python where it has no shell,
or nobody: then the output comes through the client."""
PULL = (
    'docker image inspect "$2" >/dev/null 2>&1 || docker pull "$2" >>"$1" 2>&1 || exit 125\n'
    'shift 2; exec "$@"'
)
"""Run by the host's sh. An image that is not there is pulled first, and its progress is shown in
the job's log; what the client says afterwards is not the program's and goes elsewhere."""
REQUIRE = 'docker image inspect "$1" >/dev/null || exit 125\nshift; exec "$@"'
"""The same for an image that did not come from a registry under its own name: there, anybody may
own that name."""


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
    output: str = BY_SHELL,
    rootless: bool = False,
) -> List[str]:
    """The image's entrypoint is replaced, so that argv runs as it is, or by way of a program of the
    image (``output``) that leads both outputs into the job's log and becomes argv.

    No log driver: the log is written by the program or by the client, and Docker would keep a
    second copy that grows.
    """
    words = ["docker", "run", "--name", container_name(spec.job_id), "--cidfile", cid_file]
    words += ["--label", "%s=%s" % (JOB_LABEL, spec.job_id), "--init", "--log-driver", "none"]
    words += ["--sig-proxy=false", "--stop-signal", "SIGTERM"]
    for place in (paths.work, paths.outputs, paths.home):
        words += ["--mount", "type=bind,source=%s,target=%s" % (place, place)]
    if output != ATTACHED:
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
    entrypoint, *arguments = _started(spec, output)
    return [*words, "--entrypoint", entrypoint, str(spec.image), *arguments]


def output_without_shell(spec: JobSpec) -> str:
    runs_python = os.path.basename(spec.argv[0]).startswith("python")
    return BY_PYTHON if runs_python else ATTACHED


def _started(spec: JobSpec, output: str) -> List[str]:
    if output == BY_SHELL:
        return [SHELL, "-c", INTO_LOG, STARTER, *spec.argv]
    if output == BY_PYTHON:
        return [spec.argv[0], "-I", "-c", PYTHON_INTO_LOG, *spec.argv]
    return list(spec.argv)


def pulling(command: List[str], spec: JobSpec, paths: JobPaths) -> List[str]:
    """The command behind :data:`PULL`, or behind :data:`REQUIRE`."""
    image, plan = str(spec.image), spec.image_plan
    if is_made_by_rigup(image) or (plan is not None and plan.pull != image):
        return ["sh", "-c", REQUIRE, "sh", image, *command]
    return ["sh", "-c", PULL, "sh", paths.log, image, *command]
