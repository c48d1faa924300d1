"""Jobs that run in a Docker container.

The job's work, outputs and home are mounted at the same paths, so that paths in logs and outputs
mean the same inside and outside; its records are not. The program's environment travels in a 0600
file, never in arguments.

The program writes into the job's log itself (see :mod:`.container_command`), and its first process
is watched in /proc: neither a lost client nor a Docker that is away takes anything from a running
job. A program of an image with neither shell nor Python runs attached: its output comes through the
client.

The container is kept until its exit code and OOMKilled flag were read, then removed. The file with
its environment stays as long as the container may be there, see :mod:`remote_agent.sweep`.
"""

from __future__ import annotations

import math
import os
import signal
import time
from typing import Callable, Dict, List, Optional, Tuple

from remote_agent.docker import (
    TIMEOUT_S,
    Container,
    DockerSilent,
    call_docker,
    docker_problem,
    inspect_container,
    read_engine,
    remove_containers,
)
from remote_agent.faults import CouldNotStart, complain
from remote_agent.files import write_all, write_atomic
from remote_agent.launch import LaunchError, launch
from remote_agent.processes import Identity, identity_of, is_alive
from remote_agent.runtimes.base import Ending, Job, Runtime, container_name
from remote_agent.runtimes.container_cause import CauseFinder
from remote_agent.runtimes.container_command import (
    ATTACHED,
    BY_SHELL,
    container_environment,
    output_without_shell,
    pulling,
    run_command,
)
from remote_agent.runtimes.container_end import (
    ending_of_container,
    lacks_shell,
    refusal,
)
from remote_agent.runtimes.container_process import find_first_process

LAST_WORDS = 2000
RETRY_S = 1.0
FIRST_LOOK_S = 0.1
ANSWER_S = 10.0
"""How long Docker may take to answer while nothing else is done."""
STOPPING_ANSWER_S = 4.0
GOING_DOWN_ANSWER_S = 2.0
LOOKS = 60
"""How often a new container's first process is looked for in /proc."""
UNSEEN_LIMIT_S = 120.0
"""How long Docker may be away when no process of the container can be seen either."""
ENDED_LIMIT_S = 600.0
"""How long Docker is waited for to tell the exit code of a container that has ended."""
GOING_DOWN_LIMIT_S = 10.0
DRAIN_LIMIT_S = 10.0
ENDED_UNTOLD = (
    "its container ended while Docker was away, so its exit code is not known (%s); container %s "
    "is removed when Docker is back"
)
UNSEEN = (
    "no process of its container is seen, and Docker does not answer (%s); if it still runs: "
    "docker rm -f %s"
)
RUN_AGAIN = "run it again; a job that saves checkpoints can resume from them"
GAP = b"\n[rigup] attached to the container anew: output written meanwhile may be missing\n"


class ContainerRuntime(Runtime):
    """``process`` is the client until the container's own first process is found."""

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(job)
        self._clock = clock
        self._name = container_name(job.spec.job_id)
        self._client: Optional[Identity] = None
        self._first: Optional[Identity] = None
        self._direct: Optional[bool] = None
        self._cause = CauseFinder(self._name, clock)
        self._rootless = False
        self._recovered = False
        self._looks_left = LOOKS
        self._ask_at = 0.0
        self._look_at = 0.0
        self._silent_since: Optional[float] = None
        self._ended_at: Optional[float] = None
        self._stopping = self._killed = False
        self._going_down_since: Optional[float] = None

    def start(self) -> None:
        problem = docker_problem()
        if problem is not None:
            raise CouldNotStart(*problem)
        engine = read_engine(TIMEOUT_S)
        if engine is not None:
            self._rootless = engine.rootless
            self._cause.keeps_containers = engine.keeps_containers
        self._run(BY_SHELL)

    def recover(self, process: Identity) -> None:
        """``process`` is the client, which may have died with its supervisor, or the first process
        of a container that needs no client."""
        self.process, self._client, self._recovered = process, process, True
        if self._find_first() and self._first == process:
            self._client, self._direct = None, True

    def poll(self, reaped: Dict[int, int]) -> Optional[Ending]:
        if self.process is None:
            return None
        client_lives = self._client_lives(reaped)
        if self._first is None and client_lives:
            self._look_for_first()
            return None
        if self._first is not None and is_alive(self._first):
            return self._while_alive(client_lives)
        if client_lives and not self._direct and not self._is_drained():
            return None
        return self._ask(client_lives)

    def stop(self, grace_s: float) -> None:
        """The first process is told directly, as Docker would: for that nobody needs Docker."""
        self._stopping = True
        if self._signal_first(signal.SIGTERM):
            return
        if self._recovered or self._was_created():
            argv = ["docker", "stop", "-t", str(max(1, round(grace_s))), self._name]
            launch(argv, self.job.paths.root, self._client_environment(()), os.devnull)
        else:  # the image is still being pulled
            self.job.tree.send(signal.SIGTERM)

    def kill(self) -> None:
        self._stopping = self._killed = True
        unseen = not self._signal_first(signal.SIGKILL)
        self.job.tree.send(signal.SIGKILL)
        if unseen:
            call_docker("kill", self._name, timeout_s=self._patience())

    def host_goes_down(self) -> None:
        """Docker ends its containers itself at a shutdown, unless it is to keep them (live-restore)
        or is gone already."""
        if self._going_down_since is not None:
            return
        self._going_down_since = self._clock()
        self._cause.is_away(self._patience())
        if self._cause.keeps_containers is not False:
            self._signal_first(signal.SIGTERM)

    def clean_up(self) -> None:
        """What cannot be removed now is removed at a later contact."""
        if os.path.exists(self.job.paths.container_env):
            try:
                remove_containers(self.job.spec.job_id, self._patience())
            except DockerSilent as silence:
                complain("container %s could not be removed yet: %s" % (self._name, silence))
                return
        for path in (self._client_file, self._cid_file, self.job.paths.container_env):
            if os.path.exists(path):
                os.unlink(path)

    @property
    def _cid_file(self) -> str:
        return os.path.join(self.job.paths.root, "container.id")

    @property
    def _client_file(self) -> str:
        return os.path.join(self.job.paths.root, "container.err")

    def _run(self, output: str) -> None:
        spec, paths = self.job.spec, self.job.paths
        inherited = self._write_environment()
        argv = run_command(
            spec,
            paths,
            self.job.gpus,
            paths.container_env,
            inherited,
            cid_file=self._cid_file,
            output=output,
            rootless=self._rootless,
        )
        if os.path.exists(self._cid_file):
            os.unlink(self._cid_file)
        direct = output != ATTACHED
        said = self._client_file if direct else paths.log
        env = self._client_environment(inherited)
        try:
            pid = launch(pulling(argv, spec, paths), paths.root, env, said)
        except LaunchError as error:
            raise CouldNotStart("docker: %s" % error, "install Docker on the host") from None
        self._watch_client(pid)
        self._direct, self._first = direct, None
        self._looks_left, self.patience_s = LOOKS, FIRST_LOOK_S

    def _watch_client(self, pid: int) -> None:
        self.process = self._client = identity_of(pid)

    def _client_lives(self, reaped: Dict[int, int]) -> bool:
        if self._client is None:
            return False
        if self._client.pid in reaped:
            return False
        return not self._recovered or is_alive(self._client)

    def _was_created(self) -> bool:
        """The client writes the container's id as soon as there is one."""
        try:
            return os.path.getsize(self._cid_file) > 0
        except OSError:
            return False

    def _look_for_first(self) -> None:
        """Soon after the start; later there is nothing to find, see :func:`find_first_process`."""
        if self._looks_left <= 0 or self._clock() < self._look_at:
            return
        self.patience_s = min(RETRY_S, self.patience_s * 1.1)
        self._look_at = self._clock() + self.patience_s
        if not (self._recovered or self._was_created()):
            return
        self._looks_left -= 1
        if self._find_first() or self._looks_left == 0:
            self.patience_s = math.inf

    def _find_first(self) -> bool:
        found = find_first_process(self.job.spec.job_id, self.job.tree.pids())
        if found is None:
            return False
        self._first = found
        if self._direct:
            self.process = found
        return True

    def _signal_first(self, number: int) -> bool:
        """False where it is not seen, or not ours to signal."""
        alive = self._first is not None and is_alive(self._first)
        if not alive and not self._find_first():
            return False
        assert self._first is not None
        try:
            os.kill(self._first.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return True

    def _while_alive(self, client_lives: bool) -> Optional[Ending]:
        """Docker is needed only to read the output of an attached container."""
        self._ended_at = None
        since = self._going_down_since
        if since is not None:
            self.patience_s = RETRY_S / 10
            over = self._clock() - since >= GOING_DOWN_LIMIT_S
            return _unknown("the host went down while it ran") if over else None
        if client_lives:
            self.patience_s = math.inf
            return None
        self._cause.lost_docker = True
        self.patience_s = RETRY_S
        return None if self._direct else self._ask()

    def _is_drained(self) -> bool:
        """The client of an attached container still writes what it has read, and then ends; where
        Docker hangs it does not."""
        self.patience_s = RETRY_S
        if self._ended_at is None:
            self._ended_at = self._clock()
        return self._clock() - self._ended_at >= DRAIN_LIMIT_S

    def _ask(self, client_lives: bool = False) -> Optional[Ending]:
        """What Docker knows of the container; at most once in RETRY_S."""
        self.patience_s = RETRY_S
        if self._clock() < self._ask_at:
            return None
        try:
            container = inspect_container(self._name, self._patience())
        except DockerSilent as silence:
            self._ask_at = self._clock() + RETRY_S
            return self._while_silent(silence)
        self._ask_at = self._clock() + RETRY_S
        self._silent_since = None
        if container is None:
            return self._without_container()
        if container.running:
            if not client_lives:
                self._go_on(container)
            return None
        return self._ended(container)

    def _patience(self) -> float:
        """How long Docker may take to answer: little while somebody waits for the end."""
        if self._going_down_since is not None:
            return GOING_DOWN_ANSWER_S
        return STOPPING_ANSWER_S if self._stopping else ANSWER_S

    def _while_silent(self, silence: DockerSilent) -> Optional[Ending]:
        """The container is waited for as long as it lives; its exit code, a while."""
        self._cause.lost_docker = True
        now = self._clock()
        self._silent_since = since = now if self._silent_since is None else self._silent_since
        if self._is_seen():
            self._silent_since = None
            return None
        decided = self._cause.decided_by_silence()
        if decided is not None:
            return decided
        known = self._first is not None
        hurry = self._stopping if known else self._killed and not self._is_hidden()
        hurry = hurry or self._going_down_since is not None
        if not hurry and now - since < (ENDED_LIMIT_S if known else UNSEEN_LIMIT_S):
            return None
        return _unknown((ENDED_UNTOLD if known else UNSEEN) % (silence, self._name))

    def _is_hidden(self) -> bool:
        """May it run although no process of it is seen? Such a one was looked for in vain."""
        return self._recovered or self._looks_left <= 0

    def _is_seen(self) -> bool:
        return (self._first is not None and is_alive(self._first)) or self._find_first()

    def _go_on(self, container: Container) -> None:
        """The client ended and the container did not, as when Docker restarts under it
        (live-restore), or somebody has started it again."""
        if self._killed:
            call_docker("kill", self._name, timeout_s=self._patience())
            return
        self._direct = container.direct
        if not self._find_first() or not self._direct:
            self._attach()

    def _attach(self) -> None:
        """For the output, or only to be woken at the end where no process can be watched."""
        if not self._direct:
            _append(self.job.paths.log, GAP)
        argv = ["docker", "attach", "--no-stdin", "--sig-proxy=false", self._name]
        output = self._client_file if self._direct else self.job.paths.log
        env = self._client_environment(())
        self._watch_client(launch(argv, self.job.paths.root, env, output))
        self._recovered, self.patience_s = False, math.inf

    def _without_container(self) -> Optional[Ending]:
        if not (self._recovered or self._first or self._was_created()):
            lines = self._said_by_client() or _last_lines(self.job.paths.log)
            return Ending(could_not_start=refusal(lines, self.job.spec))
        remembered = self._cause.of_removed()
        if remembered is not None:
            return remembered
        said = "its container %s is gone: somebody removed it (docker rm -f)" % self._name
        return _unknown("%s, so its exit code is not known" % said)

    def _ended(self, container: Container) -> Optional[Ending]:
        if self._direct is None:
            self._direct = container.direct
        client = self._said_by_client()
        if self._direct and lacks_shell(container, client):
            return self._run_without_shell()
        log = _last_lines(self.job.paths.log)
        ending = ending_of_container(container, self.job.spec, client, log)
        asked_for = self._stopping or self._going_down_since is not None
        if ending.exit_code in (None, 0) or ending.oom_killed or asked_for:
            return ending
        return self._cause.complete(ending, self._first, self._patience())

    def _run_without_shell(self) -> Optional[Ending]:
        try:
            remove_containers(self.job.spec.job_id)
            self._run(output_without_shell(self.job.spec))
        except DockerSilent as silence:
            return self._while_silent(silence)
        except CouldNotStart as problem:
            return Ending(could_not_start=problem)
        return None

    def _said_by_client(self) -> List[str]:
        return _last_lines(self._client_file if self._direct else self.job.paths.log)

    def _write_environment(self) -> Tuple[str, ...]:
        """Returns the names whose values no line of the file can hold (a newline): those are
        inherited from the client's own environment instead."""
        values = container_environment(self.job.spec, self.job.paths, self.job.gpus)
        inherited = tuple(name for name, value in values.items() if "\n" in value)
        lines = ["%s=%s\n" % item for item in values.items() if item[0] not in inherited]
        text = "".join(lines).encode("utf-8", "surrogateescape")
        write_atomic(self.job.paths.container_env, text)
        return inherited

    def _client_environment(self, inherited: Tuple[str, ...]) -> Dict[str, str]:
        values = {name: self.job.spec.env[name] for name in inherited}
        return {**os.environ, **values, "RIGUP_JOB_ID": self.job.spec.job_id}


def _unknown(why: str) -> Ending:
    return Ending(unknown=why, hint=RUN_AGAIN)


def _append(log: str, text: bytes) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        write_all(fd, text)
    finally:
        os.close(fd)


def _last_lines(path: str) -> List[str]:
    """Nothing where the file is absent."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS))
            return [line for line in file.read().decode("utf-8", "replace").splitlines() if line]
    except OSError:
        return []
