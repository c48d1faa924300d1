"""The images of this host's Docker, for a job that waits for one of them.

Every step watches the job: it ends at once, with Docker's client, when the job waits no longer
(:class:`~remote_agent.queued_job.Stopped`). What does not work raises CouldNotStart with Docker's
last words and a remedy.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Sequence, Tuple, Union

from remote_agent.docker import DENIED_HINT, MISSING_HINT, docker_problem
from remote_agent.docker_client import Answer, run_docker
from remote_agent.faults import CouldNotStart
from remote_agent.image_progress import (
    BuildProgress,
    NoProgress,
    PullProgress,
    last_words,
    shown,
)
from remote_agent.queued_job import QueuedJob
from remote_agent.verdict import MAKE_ROOM

QUESTION_LIMIT_S = 30.0
PULL_LIMIT_S = 6 * 3600.0
BUILD_LIMIT_S = 2 * 3600.0
PULL_PAUSES_S = (10.0, 30.0)
"""Between attempts. Docker keeps the layers that it has whole."""
AWAY_PAUSES_S = (5.0, 10.0, 15.0, 30.0, 60.0)
"""Docker may still be starting, as after a reboot."""

NO_SUCH_IMAGE = ("no such image", "no such object")
FOR_GOOD = (
    "manifest unknown",
    ": not found",
    "no matching manifest",
    "denied",
    "unauthorized",
    "invalid reference format",
    "no space left on device",
)
"""Failures of a pull that the next attempt would meet again."""
NO_ROOM = ("no space left on device", "disk quota exceeded")
SSH_LABEL = "rigup.ssh"
LABEL_MARK = "label="
STAGE_LABEL = "rigup.stage=packages"
BUILD_HINT = (
    "where the network re-signs TLS or has its own package index, set mirrors.ca_certificates and "
    "mirrors.python_index in the inventory"
)


class HostImages:
    """``run_docker`` is replaced in tests."""

    def __init__(self, job: QueuedJob, run_docker: Callable[..., Answer] = run_docker) -> None:
        self._job = job
        self._run_docker = run_docker

    def has(self, image: str) -> bool:
        """Waits a while for a Docker that is away. Raises CouldNotStart."""
        for pause_s in (*AWAY_PAUSES_S, 0.0):
            words = ("image", "inspect", "--format", "{{.Id}}", image)
            answer = self._run(words, QUESTION_LIMIT_S)
            said = last_words(answer.lines)
            if answer.code == 0:
                return True
            if any(phrase in said.lower() for phrase in NO_SUCH_IMAGE):
                return False
            problem = docker_problem(self._ask) or (
                "Docker does not say whether %s is there: %s" % (shown(image), said),
                "check `systemctl status docker` on the host",
            )
            if not pause_s or problem[1] in (MISSING_HINT, DENIED_HINT):
                raise CouldNotStart(*problem)
            self._job.pause(pause_s, problem[0])
        return False

    def pull(self, source: str, base: str) -> None:
        deadline = self._job.clock() + PULL_LIMIT_S
        for attempt in range(len(PULL_PAUSES_S) + 1):
            progress = PullProgress(source)
            left_s = max(QUESTION_LIMIT_S, deadline - self._job.clock())
            answer = self._run(("pull", source), left_s, progress)
            if answer.code == 0:
                break
            said = last_words(answer.lines)
            if attempt == len(PULL_PAUSES_S) or _is_for_good(said) or self._job.clock() >= deadline:
                raise self._pull_problem(source, said)
            pause_s = PULL_PAUSES_S[attempt]
            said = "%s; Docker said: %s; again in %d s" % (progress, said, pause_s)
            self._job.pause(pause_s, said)
        if source != base:
            self.tag(source, base)

    def is_made_for_ssh(self, image: str) -> bool:
        """Docker's client may print warnings besides."""
        label = '%s{{index .Config.Labels "%s"}}' % (LABEL_MARK, SSH_LABEL)
        words = ("image", "inspect", "--format", label, image)
        answer = self._run(words, QUESTION_LIMIT_S)
        told = [line[len(LABEL_MARK) :] for line in answer.lines if line.startswith(LABEL_MARK)]
        return answer.code == 0 and any(one not in ("", "<no value>") for one in told)

    def build(self, image: str, context: int, arguments: Dict[str, str]) -> None:
        """``context``: the descriptor of a tar archive. The values of ``arguments`` reach Docker's
        client in its environment: command lines are for all users to read."""
        words = ["build", "--force-rm", "--tag", image]
        for name in sorted(arguments):
            words += ["--build-arg", name]
        progress = BuildProgress(image)
        answer = self._run((*words, "-"), BUILD_LIMIT_S, progress, context, arguments)
        # The stage that held the packages is of no further use.
        prune = ("image", "prune", "--force", "--filter", "label=" + STAGE_LABEL)
        self._run(prune, QUESTION_LIMIT_S)
        if answer.code != 0:
            said = last_words(answer.lines, tuple(arguments.values()))
            evidence = "the image %s cannot be built: %s" % (shown(image), said)
            raise CouldNotStart(evidence, _room(said) or BUILD_HINT)

    def tag(self, source: str, target: str) -> None:
        answer = self._run(("tag", source, target), QUESTION_LIMIT_S)
        if answer.code != 0:
            said = "%s cannot be named %s: %s" % (
                shown(source),
                shown(target),
                last_words(answer.lines),
            )
            raise CouldNotStart(said, "run `docker images` on the host, then run it again")

    def _pull_problem(self, source: str, said: str) -> CouldNotStart:
        problem = docker_problem(self._ask)
        if problem is not None:
            return CouldNotStart(*problem)
        hint = "check its name, and whether `docker pull %s` works on the host" % shown(source)
        if "denied" in said.lower() or "unauthorized" in said.lower():
            hint = "check its name, and log in on the host as this user (`docker login`)"
        evidence = "the image %s cannot be pulled: %s" % (shown(source), said)
        return CouldNotStart(evidence, _room(said) or hint)

    def _ask(self, *words: str) -> Tuple[int, str]:
        answer = self._run(words, QUESTION_LIMIT_S)
        return answer.code, last_words(answer.lines)

    def _run(
        self,
        words: Sequence[str],
        timeout_s: float,
        progress: Optional[Union[PullProgress, BuildProgress]] = None,
        stdin: Optional[int] = None,
        env: Optional[Dict[str, str]] = None,
    ) -> Answer:
        counted = progress or NoProgress()

        def look() -> None:
            self._job.look()
            if progress is not None:
                self._job.say(str(progress))

        return self._run_docker(words, timeout_s, look, counted.take, stdin, env)


def _is_for_good(said: str) -> bool:
    return any(phrase in said.lower() for phrase in FOR_GOOD)


def _room(said: str) -> str:
    """The remedy where the disk was full, else ""."""
    full = any(phrase in said.lower() for phrase in NO_ROOM)
    return "%s; `docker system df` shows what Docker keeps" % MAKE_ROOM if full else ""
