"""Jobs that run in a Docker container, attached in the foreground of their supervisor.

The job's directory is mounted at the same path, so that paths in logs and outputs mean the same
inside and outside. The program's environment travels in a 0600 file, never in arguments. The
container is kept until its exit code and OOMKilled flag were read, then removed.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any, Dict, List, Optional, Tuple

from remote_agent.docker import call_docker, docker_problem, is_rootless
from remote_agent.faults import CouldNotStart
from remote_agent.files import write_atomic
from remote_agent.launch import LaunchError, launch
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity, identify, is_alive
from remote_agent.protocol.job import JobSpec
from remote_agent.runtimes.base import Ending, Gpu, Job, Runtime
from remote_agent.runtimes.process import ending_of
from remote_agent.workspace import own_variables, working_directory

NAME_PREFIX = "rigup-"
JOB_LABEL = "rigup.job"
DAEMON_ERROR = 125
"""`docker run` exits so when Docker itself refused; otherwise with the program's own code."""
STARTING_PROBLEMS = {126: "cannot be executed", 127: "was not found"}
LAST_WORDS = 2000


class ContainerRuntime(Runtime):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._name = NAME_PREFIX + job.spec.job_id
        self._pid = 0
        self._adopted: Optional[Identity] = None

    def start(self) -> int:
        problem = docker_problem()
        if problem is not None:
            raise CouldNotStart(*problem)
        spec, paths = self.job.spec, self.job.paths
        env_file, inherited = self._write_environment()
        argv = run_command(spec, paths, self.job.gpus, env_file, inherited, rootless=is_rootless())
        try:
            self._pid = launch(argv, paths.root, self._client_environment(inherited), paths.log)
        except LaunchError as error:
            raise CouldNotStart("docker: %s" % error, "install Docker on the host") from None
        return self._pid

    def recover(self, pid: int) -> None:
        """The client process is not our child: attach anew where it died with its supervisor."""
        found = identify(pid)
        if found is None and self._inspect().get("Running"):
            argv = ["docker", "attach", "--no-stdin", "--sig-proxy=false", self._name]
            env = self._client_environment(())
            self._pid = launch(argv, self.job.paths.root, env, self.job.paths.log)
            return
        self._pid, self._adopted = pid, found or Identity(pid, 0)

    def poll(self, reaped: Dict[int, int]) -> Optional[Ending]:
        if self._adopted is not None:
            return None if is_alive(self._adopted) else self._ending(None)
        if self._pid not in reaped:
            return None
        return self._ending(ending_of(reaped[self._pid]))

    def stop(self, grace_s: float) -> None:
        """Docker itself waits for the grace period; the client process ends with the container."""
        env = self._client_environment(())
        argv = ["docker", "stop", "-t", str(max(1, round(grace_s))), self._name]
        launch(argv, self.job.paths.root, env, os.devnull)

    def kill(self) -> None:
        call_docker("kill", self._name)
        self.job.tree.send(signal.SIGKILL)

    def clean_up(self) -> None:
        call_docker("rm", "--force", "--volumes", self._name)
        if os.path.exists(self._env_file):
            os.unlink(self._env_file)

    @property
    def _env_file(self) -> str:
        return os.path.join(self.job.paths.root, "container.env")

    def _ending(self, client: Optional[Ending]) -> Ending:
        """The container's own account; the client's where there never was a container."""
        state = self._inspect()
        if not state:
            return Ending(could_not_start=self._refusal()) if client else Ending()
        if state.get("Running"):
            call_docker("kill", self._name)  # its client died; nobody would see its output
            return client or Ending()
        code = int(state.get("ExitCode", 0))
        said = state.get("Error") or _init_complaint(self.job.paths.log)
        if said and code in (DAEMON_ERROR, *STARTING_PROBLEMS):
            return Ending(could_not_start=self._unstarted(code, str(said)))
        return Ending(exit_code=code, oom_killed=bool(state.get("OOMKilled")))

    def _inspect(self) -> Dict[str, Any]:
        code, output = call_docker(
            "container", "inspect", "--format", "{{json .State}}", self._name
        )
        if code != 0:
            return {}
        state: Dict[str, Any] = json.loads(output)
        return state

    def _refusal(self) -> CouldNotStart:
        return CouldNotStart(
            "docker run refused: %s" % _last_words(self.job.paths.log),
            "check the image name %s and that the host can pull it" % self.job.spec.image,
        )

    def _unstarted(self, code: int, said: str) -> CouldNotStart:
        program = self.job.spec.argv[0]
        if code == DAEMON_ERROR or "gpu" in said.lower():
            return CouldNotStart(said, "run `rigup provision` for this host")
        return CouldNotStart(
            "%s %s in the image: %s" % (program, STARTING_PROBLEMS[code], said),
            "check that %s has it" % self.job.spec.image,
        )

    def _write_environment(self) -> Tuple[str, Tuple[str, ...]]:
        """The file, and the names whose values no line of it can hold (a newline): those are
        inherited from the client's own environment instead."""
        values = container_environment(self.job.spec, self.job.paths, self.job.gpus)
        inherited = tuple(name for name, value in values.items() if "\n" in value)
        lines = ["%s=%s\n" % item for item in values.items() if item[0] not in inherited]
        write_atomic(self._env_file, "".join(lines).encode("utf-8", "surrogateescape"))
        return self._env_file, inherited

    def _client_environment(self, inherited: Tuple[str, ...]) -> Dict[str, str]:
        values = {name: self.job.spec.env[name] for name in inherited}
        return {**values, **os.environ, "RIGUP_JOB_ID": self.job.spec.job_id}


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
    rootless: bool = False,
) -> List[str]:
    """The exact `docker run`. The image's entrypoint is replaced, so that argv runs as it is.

    No log driver: the log is written by us, and Docker would keep a second copy that grows.
    """
    words = ["docker", "run", "--name", NAME_PREFIX + spec.job_id]
    words += ["--label", "%s=%s" % (JOB_LABEL, spec.job_id), "--init", "--log-driver", "none"]
    words += ["--mount", "type=bind,source=%s,target=%s" % (paths.root, paths.root)]
    words += ["--workdir", working_directory(spec, paths), "--env-file", env_file]
    if not rootless:
        words += ["--user", "%d:%d" % (os.geteuid(), os.getegid())]
    for name in inherited:
        words += ["--env", name]
    if gpus:
        words += ["--gpus", '"device=%s"' % ",".join(gpu.uuid for gpu in gpus)]
    for mount in spec.mounts:
        words += ["--volume", mount]
    if spec.shm_size:
        words += ["--shm-size", spec.shm_size]
    return [*words, "--entrypoint", spec.argv[0], str(spec.image), *spec.argv[1:]]


def _init_complaint(log: str) -> str:
    """What docker-init (tini) prints when it cannot execute the program: Docker itself then
    only sees an exit code, which a program could have returned as well."""
    complaints = [line for line in _last_lines(log) if line.startswith("[FATAL tini")]
    return complaints[-1] if complaints else ""


def _last_lines(log: str) -> List[str]:
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS))
        return [line for line in file.read().decode("utf-8", "replace").splitlines() if line]


def _last_words(log: str) -> str:
    lines = _last_lines(log)
    said = [line for line in lines if line.startswith(("docker:", "Unable", "Error"))]
    return (said or lines or ["no reason given"])[-1 if not said else 0]
