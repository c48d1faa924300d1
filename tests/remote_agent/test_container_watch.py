"""A container job whose Docker restarts, hangs, stays away or loses the container: Docker is a
scripted program, and a process of this test stands for the container's first one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_docker import FakeDocker

from remote_agent.docker import DockerSilent, inspect_container
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity, identity_of, is_alive
from remote_agent.protocol.job import CONTAINER, JobSpec
from remote_agent.runtimes import container as module
from remote_agent.runtimes import container_cause
from remote_agent.runtimes.base import Ending, Job
from remote_agent.tree import Tree

SPEC = JobSpec("job-1", "one", ("train",), runtime=CONTAINER, image="x")
CLIENT, ATTACHED = Identity(4194301, 1), Identity(4194302, 0)
CLIENT_ENDED = {CLIENT.pid: 256}
FOUR_HOURS = 4 * 3600


class NoTree(Tree):
    """No process of this machine is the job's."""

    def pids(self) -> list[int]:
        return []


class Host:
    """A running container job whose client was noted, and whose first process is ``first``."""

    def __init__(self, directory: Path, docker: FakeDocker) -> None:
        self.docker = docker
        self.now = 0.0
        self.first: Identity | None = None
        self.launched: list[list[str]] = []
        self.paths = JobPaths(str(directory))
        self.log = directory / "log"
        self.log.write_bytes(b"step 1\n")
        (directory / "container.id").write_text("0123abcd")
        self.env_file = directory / "container.env"
        self.env_file.write_text("A=b\n")
        self.runtime = self.new_runtime()
        self.runtime.process = self.runtime._client = CLIENT
        self.runtime._direct = True
        self._children: list[subprocess.Popen[bytes]] = []

    def new_runtime(self) -> module.ContainerRuntime:
        job = Job(SPEC, self.paths, NoTree("job-none"))
        return module.ContainerRuntime(job, clock=lambda: self.now)

    def container_runs(self) -> Identity:
        child = subprocess.Popen(["sleep", "1000"])
        self._children.append(child)
        self.first = identity_of(child.pid)
        return self.first

    def container_ends(self) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):  # a test may have waited for it
                child.kill()
            child.wait()
        self.first = None

    def launch(self, argv: list[str], cwd: str, env: dict[str, str], output: str) -> int:
        self.launched.append([*argv, output])
        return ATTACHED.pid

    def poll(self, reaped: dict[int, int] | None = None, *, after: float = 2.0) -> Ending | None:
        self.now += after
        return self.runtime.poll(CLIENT_ENDED if reaped is None else reaped)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    docker = FakeDocker(tmp_path)
    monkeypatch.setenv("PATH", f"{docker.bin}:{os.environ['PATH']}")
    made = Host(tmp_path, docker)
    monkeypatch.setattr(module, "find_first_process", lambda job_id, pids: made.first)
    monkeypatch.setattr(module, "launch", made.launch)
    yield made
    made.container_ends()


def test_while_client_and_container_live_docker_is_not_asked(host):
    host.container_runs()
    assert host.poll({}) is None
    assert host.runtime.process == host.first, "the record names what really runs"
    assert host.runtime.patience_s == float("inf")
    assert host.docker.calls == []


def test_docker_away_for_hours_ends_no_container(host):
    host.container_runs()
    host.poll({})
    host.docker.away()
    for _ in range(FOUR_HOURS // 60):
        assert host.poll(after=60.0) is None
    assert is_alive(host.first)
    assert host.runtime.patience_s <= 1.0, "nobody would wake us at its end"
    assert host.log.read_bytes() == b"step 1\n", "nothing is lost, so nothing is said"
    host.container_ends()
    assert host.poll() is None, "its exit code is worth a wait"
    host.docker.back()
    host.docker.container(Status="exited", ExitCode=5)
    assert host.poll().exit_code == 5


def test_the_client_killed_the_program_goes_on_and_no_byte_is_said_to_be_lost(host):
    host.container_runs()
    host.poll({})
    assert host.poll() is None
    assert (host.docker.calls, host.launched) == ([], [])


def test_a_container_that_docker_lost_at_its_start_is_seen_all_the_same(host):
    host.docker.away()
    host.container_runs()
    for _ in range(200):
        assert host.poll() is None
    assert is_alive(host.first)


def test_the_exit_code_of_an_ended_container_is_waited_for_ten_minutes(host):
    host.container_runs()
    host.poll({})
    host.container_ends()
    host.docker.away("connection refused")
    endings = [host.poll(after=10.0) for _ in range(62)]
    assert endings[:60] == [None] * 60
    assert "ended while Docker was away" in endings[-1].unknown
    assert "connection refused" in endings[-1].unknown


def test_a_container_that_nobody_sees_is_given_up_with_a_way_to_end_it(host):
    host.docker.away("connection refused")
    endings = [host.poll() for _ in range(62)]
    assert endings[:60] == [None] * 60
    assert "connection refused" in endings[-1].unknown
    assert "docker rm -f rigup-job-1" in endings[-1].unknown


def test_docker_is_not_asked_in_a_tight_loop(host):
    host.docker.away()
    for _ in range(100):
        host.poll(after=0.02)
    assert len(host.docker.calls) <= 3


def test_stop_needs_no_docker(host):
    first = host.container_runs()
    host.poll({})
    host.docker.away()
    host.runtime.stop(10.0)
    assert os.waitpid(first.pid, 0)[1] == signal.SIGTERM
    host.container_ends()
    assert host.poll() is not None, "nothing is waited for"
    assert host.launched == []


def test_kill_needs_no_docker(host):
    first = host.container_runs()
    host.docker.away()
    host.runtime.kill()
    assert os.waitpid(first.pid, 0)[1] == signal.SIGKILL
    assert host.docker.calls == []


def test_where_the_process_is_hidden_docker_is_asked_to_stop_it(host):
    host.runtime.stop(10.0)
    assert host.launched[0][:4] == ["docker", "stop", "-t", "10"]
    host.runtime.kill()
    assert host.docker.verbs() == ["kill"]


def test_nobody_waits_long_for_a_stop_where_nothing_of_the_container_is_seen(host):
    host.docker.away()
    host.runtime.stop(1.0)
    assert host.poll() is None, "it may take the grace period to end"
    host.runtime.kill()
    assert "docker rm -f rigup-job-1" in host.poll().unknown


def test_a_container_that_was_always_hidden_is_not_said_to_be_stopped(host):
    """As with user namespaces: what is not seen may run. When Docker is back, it is killed."""
    for _ in range(module.LOOKS):
        host.poll({})
    host.docker.away()
    host.runtime.stop(1.0)
    host.runtime.kill()
    assert [host.poll() for _ in range(30)] == [None] * 30
    host.docker.back()
    host.docker.container(Running=True)
    assert host.poll() is None
    assert host.docker.verbs()[-1] == "kill"
    host.docker.container(Status="exited", ExitCode=137)
    assert host.poll() is not None


def test_stop_while_the_image_is_pulled_ends_the_client(host, monkeypatch):
    os.unlink(host.runtime._cid_file)
    sent = []
    monkeypatch.setattr(host.runtime.job.tree, "send", sent.append)
    host.runtime.stop(10.0)
    assert (sent, host.launched) == ([signal.SIGTERM], [])


def test_what_was_to_be_killed_is_killed_again_and_not_attached(host):
    host.runtime.kill()
    host.docker.container(Running=True)
    assert host.poll() is None
    assert host.launched == []
    assert host.docker.verbs() == ["kill", "container", "kill"]


def test_a_container_whose_start_nobody_saw_to_its_end_is_removed(host):
    """Its supervisor was killed between the client's start and the note of it."""
    host.runtime = host.new_runtime()
    host.docker.answer("ps", "abc\n")
    host.runtime.kill()
    host.runtime.clean_up()
    assert host.docker.verbs() == ["kill", "ps", "rm"]
    assert not host.env_file.exists()


def test_what_never_was_started_needs_no_docker(host):
    host.env_file.unlink()
    host.docker.away()
    host.runtime.clean_up()
    assert host.docker.calls == []


def test_a_silent_docker_keeps_the_mark_that_a_container_is_left(host):
    host.docker.away()
    host.runtime.clean_up()
    assert host.env_file.exists()
    host.docker.back()
    host.docker.answer("ps", "abc\n")
    host.runtime.clean_up()
    assert not host.env_file.exists()
    assert host.docker.calls[-2] == ["ps", "--all", "--quiet", "--filter", "label=rigup.job=job-1"]
    assert host.docker.calls[-1] == ["rm", "--force", "--volumes", "abc"], "by our own label"


@pytest.mark.parametrize(("live_restore", "told"), [("true", True), ("false", False), (None, True)])
def test_at_a_shutdown_the_program_is_told_once(host, live_restore, told):
    first = host.container_runs()
    host.poll({})
    host.docker.away() if live_restore is None else host.docker.engine(live_restore == "true")
    host.runtime.host_goes_down()
    host.runtime.host_goes_down()
    if told:
        assert os.waitpid(first.pid, 0)[1] == signal.SIGTERM
    else:
        assert is_alive(first), "Docker tells it itself"


def test_a_shutdown_waits_neither_for_docker_nor_for_a_stubborn_program(host):
    host.container_runs()
    host.poll({})
    host.docker.away()
    host.runtime._going_down_since = host.now
    assert host.poll(after=1.0) is None
    assert host.runtime.patience_s < 1.0
    assert host.poll(after=10.0) is not None
    host.container_ends()
    assert "ended while Docker was away" in host.poll().unknown


def test_no_container_after_docker_run_means_it_was_refused(host):
    os.unlink(host.runtime._cid_file)
    host.docker.gone()
    Path(host.runtime._client_file).write_text("docker: Error response from daemon: no such GPU\n")
    assert "no such GPU" in host.poll().could_not_start.evidence


def test_an_image_that_cannot_be_pulled_says_so_in_the_log(host):
    os.unlink(host.runtime._cid_file)
    host.docker.gone()
    host.log.write_text("Error response from daemon: pull access denied\n")
    problem = host.poll().could_not_start
    assert "pull access denied" in problem.evidence
    assert "image name x" in problem.hint


KILLED = ("kill", {"signal": "9"}), ("die", {"exitCode": "137"})
STOPPED = ("kill", {"signal": "15"}), ("die", {"exitCode": "143"}), ("stop", {})


def test_a_container_removed_by_hand(host):
    host.docker.gone()
    host.docker.events(("start", {}), *KILLED, ("destroy", {}))
    ending = host.poll()
    assert ending.exit_code == 137
    assert "removed from outside (docker rm -f) at 2023-11-14 22:13:23 UTC" in ending.outside


def test_a_container_removed_by_hand_before_docker_restarted(host):
    host.docker.gone()
    ending = host.poll()
    assert "somebody removed it (docker rm -f)" in ending.unknown
    assert "image" not in ending.unknown


def test_a_container_that_ended_and_was_pruned_keeps_its_exit_code(host):
    host.docker.gone()
    host.docker.events(("start", {}), ("die", {"exitCode": "3"}), ("destroy", {}))
    assert host.poll() == Ending(exit_code=3)


@pytest.mark.parametrize(
    ("code", "events", "said"),
    [
        (137, KILLED, "docker kill from outside: Docker was asked to send it SIGKILL"),
        (143, STOPPED, "docker stop from outside: Docker was asked to send it SIGTERM"),
        (
            137,
            (STOPPED[0], *KILLED),
            "docker stop from outside: Docker was asked to send it SIGTERM, then SIGKILL",
        ),
        (137, (("die", {"exitCode": "137"}),), ""),
        (1, (("kill", {"signal": "USR1"}), ("die", {"exitCode": "1"})), ""),
        (137, (("kill", {"signal": []}), "not an event"), ""),
        (137, (("kill", {"signal": "9" * 400}), ("die", {"exitCode": "x"})), ""),
    ],
)
def test_who_ended_it(host, code, events, said):
    host.docker.container(Status="exited", ExitCode=code)
    if events[-1] == "not an event":
        host.docker.answer("events", '[]\n{"Action": "kill"}\nnonsense')
    else:
        host.docker.events(*events)
    ending = host.poll()
    assert ending.outside.startswith(said)
    assert bool(ending.outside) == bool(said)
    assert ending.exit_code == code
    assert ending.signal == (code - 128 if code > 128 else None)


DOCKER_STOPPED = "Docker itself was stopped or restarted"


@pytest.mark.parametrize(("live_restore", "said"), [("false", DOCKER_STOPPED), ("true", "")])
def test_docker_itself_restarted(host, live_restore, said):
    host.docker.away()
    host.poll()
    host.docker.back()
    host.docker.engine(live_restore == "true")
    host.docker.container(Status="exited", ExitCode=137)
    assert host.poll().outside.startswith(said)


def test_docker_that_stops_answers_until_its_containers_have_ended(host):
    host.docker.engine(False)
    host.docker.container(Status="exited", ExitCode=143)
    assert host.poll() is None
    host.docker.away()
    ending = host.poll()
    assert (ending.exit_code, ending.outside.startswith(DOCKER_STOPPED)) == (143, True)


def test_docker_that_restarts_may_answer_all_questions_after_it(host, monkeypatch):
    """systemd holds its socket meanwhile, so that nobody sees it go."""
    host.container_runs()
    host.poll({})
    host.container_ends()
    host.docker.engine(False)
    host.docker.container(Status="exited", ExitCode=143)
    monkeypatch.setattr(container_cause, "engine_started_after", lambda process: True)
    assert host.poll().outside.startswith(DOCKER_STOPPED)


def test_without_live_restore_a_kill_on_the_host_is_not_docker_s(host):
    host.docker.engine(False)
    host.docker.container(Status="exited", ExitCode=137)
    assert [host.poll() for _ in range(3)] == [None] * 3
    assert host.poll() == Ending(exit_code=137, signal=9)


def test_out_of_memory_in_the_container_is_nobodys_doing(host):
    host.docker.container(Status="exited", ExitCode=137, OOMKilled=True)
    host.docker.events(*KILLED)
    ending = host.poll()
    assert (ending.oom_killed, ending.outside) == (True, "")


@pytest.mark.parametrize(("code", "told"), [(0, "never started"), (128, "no gpu")])
def test_a_container_that_never_started_is_no_success(host, code, told):
    error = "" if told == "never started" else told
    host.docker.container(Status="created", ExitCode=code, Error=error)
    assert host.poll().could_not_start.evidence == told


def test_a_program_that_the_image_lacks(host):
    host.log.write_text("rigup-start: 1: exec: train: not found\n")
    host.docker.container(Status="exited", ExitCode=127)
    problem = host.poll().could_not_start
    assert problem.evidence.startswith("train was not found in the image: rigup-start")


def test_a_program_may_end_with_127_itself(host):
    host.docker.container(Status="exited", ExitCode=127)
    assert host.poll().exit_code == 127


def test_a_log_that_the_container_may_not_write(host):
    Path(host.runtime._client_file).write_text(
        "rigup-start: 1: cannot create /.rigup-log: Permission denied\n"
    )
    host.docker.container(Status="exited", ExitCode=2)
    problem = host.poll().could_not_start
    assert "log cannot be written" in problem.evidence
    assert "userns-remap" in problem.hint


NO_SHELL = "[FATAL tini (7)] exec /bin/sh failed: No such file or directory\n"


def test_an_image_without_a_shell_runs_attached(host):
    Path(host.runtime._client_file).write_text(NO_SHELL)
    host.docker.container(Status="exited", ExitCode=127)
    host.docker.answer("ps", "abc\n")
    assert host.poll() is None
    assert ["rm", "--force", "--volumes", "abc"] in host.docker.calls
    command = host.launched[-1]
    assert command[:2] == ["sh", "-c"]
    assert command[command.index("--entrypoint") + 1] == "train"
    assert command[-1] == str(host.log), "its output comes through the client"


def attached(host: Host) -> None:
    host.runtime._direct = False
    host.docker.container({}, Running=True)


def test_an_attached_container_is_attached_anew_and_the_gap_is_said(host):
    attached(host)
    host.container_runs()
    assert host.poll() is None
    assert host.launched[0][:2] == ["docker", "attach"]
    assert b"output written meanwhile may be missing" in host.log.read_bytes()
    assert host.runtime.process.pid == ATTACHED.pid
    host.container_ends()
    host.docker.container({}, Status="exited", ExitCode=5)
    assert host.poll({ATTACHED.pid: 0}).exit_code == 5


def test_the_client_of_an_attached_container_may_finish_its_writing(host):
    """The program has ended, its last bytes are on their way."""
    host.runtime._direct = False
    host.container_runs()
    host.poll({})
    host.container_ends()
    host.docker.container({}, Status="exited", ExitCode=5)
    assert [host.poll({}) for _ in range(5)] == [None] * 5
    assert host.docker.calls == []
    assert host.poll().exit_code == 5
    assert host.log.read_bytes() == b"step 1\n"


def test_a_client_that_hangs_is_not_waited_for(host):
    host.runtime._direct = False
    host.container_runs()
    host.poll({})
    host.container_ends()
    host.docker.container({}, Status="exited", ExitCode=5)
    endings = [host.poll({}, after=4.0) for _ in range(4)]
    assert endings[-1].exit_code == 5


def test_docker_may_notice_the_end_later(host):
    """Nothing is attached to a container that is about to be reported as ended."""
    host.container_runs()
    host.poll({})
    host.container_ends()
    host.docker.container(Running=True)
    assert host.poll({}) is None
    assert host.launched == []
    host.docker.container(Status="exited", ExitCode=5)
    assert host.poll({}).exit_code == 5


def test_a_client_that_ends_right_after_attaching_is_looked_at_again_soon(host):
    attached(host)
    host.poll()
    assert host.runtime.patience_s > 60.0
    host.poll({ATTACHED.pid: 0}, after=0.01)
    assert host.runtime.patience_s <= 1.0


def recover(host: Host, process: Identity) -> None:
    host.runtime = host.new_runtime()
    host.runtime.recover(process)


def test_a_new_supervisor_needs_no_docker_to_go_on(host):
    first = host.container_runs()
    host.docker.away()
    recover(host, first)
    for _ in range(200):
        assert host.poll({}) is None
    assert host.docker.calls == []


def test_a_new_supervisor_attaches_to_the_container_of_an_older_agent(host):
    host.container_runs()
    host.docker.container({}, Running=True)
    recover(host, CLIENT)
    assert host.poll({}) is None
    assert host.launched[0][:2] == ["docker", "attach"]


def test_supervisor_and_container_gone_is_no_end_by_itself(host):
    host.docker.gone()
    recover(host, CLIENT)
    ending = host.poll({})
    assert "gone" in ending.unknown
    assert "ended by itself" not in ending.unknown


def test_the_exit_code_is_known_although_the_supervisor_was_killed(host):
    host.docker.container(Status="exited", ExitCode=7)
    recover(host, CLIENT)
    assert host.poll({}).exit_code == 7


@pytest.mark.parametrize(
    ("code", "out", "err", "expected"),
    [
        (0, '{"state": {"Running": true}, "labels": null}', "", True),
        (1, "\n", "Error: No such container: rigup-x", None),
        (1, "", "Cannot connect to the Docker daemon", DockerSilent),
        (0, "{", "", DockerSilent),
        (0, "[]", "", DockerSilent),
        (0, '{"state": {"ExitCode": "many"}}', "", DockerSilent),
        (0, '{"state": [], "labels": 5}', "", DockerSilent),
        (0, '{"state": {"ExitCode": Infinity}}', "", DockerSilent),
        (0, '{"state":' + "[" * 5000, "", DockerSilent),
    ],
)
def test_silence_is_not_absence(host, code, out, err, expected):
    host.docker.answer("container", out, err=err, code=code)
    if expected is DockerSilent:
        with pytest.raises(DockerSilent):
            inspect_container("rigup-x")
        return
    found = inspect_container("rigup-x")
    assert (found and found.running) == expected
