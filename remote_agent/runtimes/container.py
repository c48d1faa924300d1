"""Jobs that run in a Docker container, attached in the foreground of their supervisor.

The job's work, outputs and home are mounted at the same paths, so that paths in logs and outputs
mean the same inside and outside; its records and its log are not. The program's environment
travels in a 0600 file, never in arguments. The container is kept until its exit code and OOMKilled
flag were read, then removed.
"""

from __future__ import annotations

import math
import os
import signal
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from remote_agent.docker import (
    DockerSilent,
    call_docker,
    container_state,
    docker_problem,
    is_rootless,
)
from remote_agent.faults import CouldNotStart, complain
from remote_agent.files import write_all, write_atomic
from remote_agent.launch import LaunchError, launch
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity, identity_of, is_alive
from remote_agent.protocol.job import JobSpec
from remote_agent.runtimes.base import Ending, Gpu, Job, Runtime, container_name
from remote_agent.workspace import own_variables, working_directory

JOB_LABEL = "rigup.job"
DAEMON_ERROR = 125
"""`docker run` exits so when Docker itself refused; otherwise with the program's own code."""
STARTING_PROBLEMS = {126: "cannot be executed", 127: "was not found"}
NO_PROGRAM = 127
LAST_WORDS = 2000
RETRY_S = 1.0
SILENCE_LIMIT_S = 120.0
"""How long Docker may be away, as in a restart, before its container is given up."""
GAP = b"\n[rigup] attached to the container anew: output written meanwhile may be missing\n"


class ContainerRuntime(Runtime):
    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(job)
        self._clock = clock
        self._name = container_name(job.spec.job_id)
        self._recovered = False
        self._killed = False
        self._ask_at = 0.0
        self._attached = False
        self._silent_since: Optional[float] = None

    def start(self) -> None:
        problem = docker_problem()
        if problem is not None:
            raise CouldNotStart(*problem)
        spec, paths = self.job.spec, self.job.paths
        env_file, inherited = self._write_environment()
        argv = run_command(spec, paths, self.job.gpus, env_file, inherited, rootless=is_rootless())
        try:
            pid = launch(argv, paths.root, self._client_environment(inherited), paths.log)
        except LaunchError as error:
            raise CouldNotStart("docker: %s" % error, "install Docker on the host") from None
        self.process = identity_of(pid)

    def recover(self, process: Identity) -> None:
        """The client may have died with its supervisor: then the next poll attaches anew."""
        self.process, self._recovered = process, True

    def poll(self, reaped: Dict[int, int]) -> Optional[Ending]:
        if self.process is None or not self._client_ended(self.process, reaped):
            return None
        self.patience_s = RETRY_S
        if self._clock() < self._ask_at:
            return None
        self._ask_at = self._clock() + RETRY_S
        try:
            state = container_state(self._name)
        except DockerSilent as silence:
            return self._while_silent(silence)
        self._silent_since = None
        if state is None:
            return self._without_container()
        if state.get("Running"):
            self._go_on()
            return None
        return self._ending(state)

    def stop(self, grace_s: float) -> None:
        """Docker itself waits for the grace period; the client process ends with the container."""
        env = self._client_environment(())
        argv = ["docker", "stop", "-t", str(max(1, round(grace_s))), self._name]
        launch(argv, self.job.paths.root, env, os.devnull)

    def kill(self) -> None:
        self._killed = True
        call_docker("kill", self._name)
        self.job.tree.send(signal.SIGKILL)

    def clean_up(self) -> None:
        code, said = call_docker("rm", "--force", "--volumes", self._name)
        if code not in (0, NO_PROGRAM) and "no such container" not in said.lower():
            complain("container %s could not be removed: %s" % (self._name, said))
        if os.path.exists(self._env_file):
            os.unlink(self._env_file)

    @property
    def _env_file(self) -> str:
        return os.path.join(self.job.paths.root, "container.env")

    def _client_ended(self, client: Identity, reaped: Dict[int, int]) -> bool:
        return client.pid in reaped or (self._recovered and not is_alive(client))

    def _go_on(self) -> None:
        """The client died and the container did not, as when Docker restarts under it
        (live-restore): attach again, unless it was to be killed."""
        if self._killed:
            call_docker("kill", self._name)
            return
        _append(self.job.paths.log, GAP)
        argv = ["docker", "attach", "--no-stdin", "--sig-proxy=false", self._name]
        env = self._client_environment(())
        pid = launch(argv, self.job.paths.root, env, self.job.paths.log)
        self.process, self._recovered, self._attached = identity_of(pid), False, True
        self.patience_s = math.inf

    def _while_silent(self, silence: DockerSilent) -> Optional[Ending]:
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since < SILENCE_LIMIT_S:
            return None
        return Ending(
            unknown="Docker has not answered for %d s (%s); if it still runs: docker rm -f %s"
            % (SILENCE_LIMIT_S, silence, self._name)
        )

    def _without_container(self) -> Ending:
        if self._recovered or self._attached:
            return Ending(unknown="its container %s is gone" % self._name)
        return Ending(could_not_start=self._refusal())

    def _ending(self, state: Dict[str, Any]) -> Ending:
        """The container's own account of its end."""
        code = int(state.get("ExitCode", 0))
        said = state.get("Error") or _init_complaint(self.job.paths.log)
        if state.get("Status") == "created":
            return Ending(could_not_start=self._unstarted(code, str(said or "never started")))
        if said and code in (DAEMON_ERROR, *STARTING_PROBLEMS):
            return Ending(could_not_start=self._unstarted(code, str(said)))
        return Ending(exit_code=code, oom_killed=bool(state.get("OOMKilled")))

    def _refusal(self) -> CouldNotStart:
        return CouldNotStart(
            "docker run refused: %s" % _last_words(self.job.paths.log),
            "check the image name %s and that the host can pull it" % self.job.spec.image,
        )

    def _unstarted(self, code: int, said: str) -> CouldNotStart:
        program = self.job.spec.argv[0]
        if code not in STARTING_PROBLEMS or "gpu" in said.lower():
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
        return {**os.environ, **values, "RIGUP_JOB_ID": self.job.spec.job_id}


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
    words = ["docker", "run", "--name", container_name(spec.job_id)]
    words += ["--label", "%s=%s" % (JOB_LABEL, spec.job_id), "--init", "--log-driver", "none"]
    for place in (paths.work, paths.outputs, paths.home):
        words += ["--mount", "type=bind,source=%s,target=%s" % (place, place)]
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
    return [*words, "--entrypoint", spec.argv[0], str(spec.image), *spec.argv[1:]]


def _init_complaint(log: str) -> str:
    """What docker-init (tini) prints when it cannot execute the program: Docker itself then
    only sees an exit code, which a program could have returned as well."""
    complaints = [line for line in _last_lines(log) if line.startswith("[FATAL tini")]
    return complaints[-1] if complaints else ""


def _append(log: str, text: bytes) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        write_all(fd, text)
    finally:
        os.close(fd)


def _last_lines(log: str) -> List[str]:
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS))
        return [line for line in file.read().decode("utf-8", "replace").splitlines() if line]


def _last_words(log: str) -> str:
    lines = _last_lines(log)
    said = [line for line in lines if line.startswith(("docker:", "Unable", "Error"))]
    return (said or lines or ["no reason given"])[-1 if not said else 0]
