"""A container job whose Docker restarts, hangs or loses the container, without any Docker."""

from __future__ import annotations

import pytest

from remote_agent import docker
from remote_agent.docker import DockerSilent, container_state
from remote_agent.layout import JobPaths
from remote_agent.processes import Identity
from remote_agent.protocol.job import CONTAINER, JobSpec
from remote_agent.runtimes import container as module
from remote_agent.runtimes.base import Job
from remote_agent.tree import Tree

SPEC = JobSpec("job-1", "one", ("train",), runtime=CONTAINER, image="x")
CLIENT, DEAD = Identity(4194301, 1), {4194301: 256}


class Docker:
    """``state``: what inspecting answers, an exception to raise included."""

    def __init__(self, directory):
        self.now = 0.0
        self.state = {"Running": True}
        self.calls, self.launched = [], []
        self.log = directory / "log"
        self.log.write_bytes(b"step 1\n")
        self.runtime = module.ContainerRuntime(
            Job(SPEC, JobPaths(str(directory)), Tree("job-none")), clock=lambda: self.now
        )
        self.runtime.process = CLIENT

    def inspect(self, name):
        assert name == "rigup-job-1"
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def call(self, *words):
        self.calls.append(words)
        return 0, ""

    def launch(self, argv, cwd, env, output):
        self.launched.append(argv)
        return 4194302

    def poll(self, reaped=DEAD, after=2.0):
        self.now += after
        return self.runtime.poll(reaped)


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Docker(tmp_path)
    monkeypatch.setattr(module, "container_state", made.inspect)
    monkeypatch.setattr(module, "call_docker", made.call)
    monkeypatch.setattr(module, "launch", made.launch)
    return made


def test_nothing_is_asked_while_the_client_lives(host):
    host.state = AssertionError("asked")
    assert host.poll({}) is None


def test_a_restart_of_docker_under_a_running_container_is_survived(host):
    host.state = DockerSilent("Cannot connect to the Docker daemon")
    assert host.poll() is None
    assert host.runtime.patience_s <= 1.0, "nobody would wake us"
    host.state = {"Running": True}
    assert host.poll() is None
    assert host.launched[0][:2] == ["docker", "attach"]
    assert b"output written meanwhile may be missing" in host.log.read_bytes()
    assert host.runtime.process.pid == 4194302
    assert host.calls == [], "it was not killed"
    host.state = {"Running": False, "ExitCode": 5}
    assert host.poll({4194302: 0}).exit_code == 5


def test_a_client_that_ends_right_after_attaching_is_looked_at_again_soon(host):
    host.poll()
    assert host.runtime.patience_s > 60.0
    host.poll({4194302: 0}, after=0.01)
    assert host.runtime.patience_s <= 1.0


def test_docker_that_stays_away_ends_the_wait_with_its_reason(host):
    host.state = DockerSilent("connection refused")
    for _ in range(59):
        assert host.poll() is None
    endings = [host.poll() for _ in range(3)]
    assert "connection refused" in endings[-1].unknown
    assert "docker rm -f rigup-job-1" in endings[-1].unknown


def test_docker_is_not_asked_in_a_tight_loop(host, monkeypatch):
    asked = []
    host.state = DockerSilent("x")
    monkeypatch.setattr(
        module, "container_state", lambda name: asked.append(name) or host.inspect(name)
    )
    for _ in range(100):
        host.poll(after=0.02)
    assert len(asked) <= 3


def test_what_was_to_be_killed_is_not_attached_again(host):
    host.runtime.kill()
    assert host.poll() is None
    assert host.launched == []
    assert [words[0] for words in host.calls] == ["kill", "kill"]


def test_no_container_after_docker_run_means_it_was_refused(host):
    host.state = None
    assert "refused" in host.poll().could_not_start.evidence


def test_no_container_for_a_recovered_job_means_it_is_gone(host):
    host.runtime.recover(CLIENT)
    host.state = None
    assert "gone" in host.poll({}).unknown


def test_a_container_that_never_started_is_no_success(host):
    host.state = {"Running": False, "Status": "created", "ExitCode": 0, "Error": ""}
    assert host.poll().could_not_start is not None
    host.state = {"Running": False, "Status": "created", "ExitCode": 128, "Error": "no gpu"}
    assert host.poll().could_not_start.evidence == "no gpu"


def test_an_empty_answer_does_not_hide_the_complaint(tmp_path, monkeypatch):
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho\necho Error: No such container: x >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert container_state("rigup-x") is None


@pytest.mark.parametrize(
    ("code", "said", "state"),
    [
        (0, '{"Running": true}', {"Running": True}),
        (1, "Error: No such container: rigup-x", None),
        (1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", DockerSilent),
        (124, "docker did not answer within 30 s", DockerSilent),
        (0, "{", DockerSilent),
    ],
)
def test_silence_is_not_absence(monkeypatch, code, said, state):
    monkeypatch.setattr(docker, "call_docker", lambda *words, timeout_s: (code, said))
    if state is DockerSilent:
        with pytest.raises(DockerSilent):
            container_state("rigup-x")
    else:
        assert container_state("rigup-x") == state
