"""The exact `docker run`, and the environment that must not show in it."""

from __future__ import annotations

import os

from remote_agent.layout import JobPaths
from remote_agent.protocol.job import CONTAINER, JobSpec
from remote_agent.runtimes.base import Gpu, Job
from remote_agent.runtimes.container import ContainerRuntime, container_environment, run_command
from remote_agent.tree import Tree

PATHS = JobPaths("/home/u/.rigup/jobs/job-1")
SPEC = JobSpec(
    "job-1",
    "one",
    ("python", "train.py", "--lr", "1e-4"),
    runtime=CONTAINER,
    image="pytorch:2.9",
    env={"TOKEN": "s3cret", "HF_HOME": "/data"},
    mounts=("/data:/data:ro",),
    shm_size="16g",
    gpus=2,
)
GPUS = (Gpu(0, "GPU-a"), Gpu(3, "GPU-b"))


def test_argv_runs_exactly_and_in_place():
    words = run_command(SPEC, PATHS, GPUS, "/env")
    assert words[:4] == ["docker", "run", "--name", "rigup-job-1"]
    tail = words.index("--entrypoint")
    assert words[tail:] == ["--entrypoint", "python", "pytorch:2.9", "train.py", "--lr", "1e-4"]
    options = {word: words[place + 1] for place, word in enumerate(words[:-1])}
    assert options["--gpus"] == '"device=GPU-a,GPU-b"'
    mounts = [words[place + 1] for place, word in enumerate(words) if word == "--mount"]
    shared = [f"{PATHS.root}/{name}" for name in ("work", "outputs", "home")]
    assert mounts == [f"type=bind,source={path},target={path}" for path in shared]
    assert options["--workdir"] == PATHS.work
    assert options["--user"] == f"{os.geteuid()}:{os.getegid()}"
    assert options["--label"] == "rigup.job=job-1"
    assert (options["--volume"], options["--shm-size"]) == ("/data:/data:ro", "16g")
    assert "--init" in words
    assert "--rm" not in words


def test_no_gpu_flags_without_gpus():
    assert "--gpus" not in run_command(SPEC, PATHS, (), "/env")
    assert container_environment(SPEC, PATHS, ())["CUDA_VISIBLE_DEVICES"] == ""


def test_rootless_docker_maps_users_itself():
    assert "--user" not in run_command(SPEC, PATHS, (), "/env", rootless=True)


def test_environment():
    env = container_environment(SPEC, PATHS, GPUS)
    assert env["HOME"] == PATHS.home
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert (env["RIGUP_GPUS"], env["HF_HOME"], env["PYTHONUNBUFFERED"]) == ("0,3", "/data", "1")


def test_values_travel_in_a_private_file(tmp_path):
    spec = JobSpec(**{**vars(SPEC), "env": {"TOKEN": "s3cret", "KEY": "line1\nline2"}})
    paths = JobPaths(str(tmp_path))
    runtime = ContainerRuntime(Job(spec, paths, Tree("job-1"), GPUS))
    path, inherited = runtime._write_environment()
    assert os.stat(path).st_mode & 0o777 == 0o600
    text = (tmp_path / "container.env").read_text()
    assert "TOKEN=s3cret\n" in text
    assert inherited == ("KEY",)
    words = run_command(spec, paths, GPUS, path, inherited)
    assert "s3cret" not in " ".join(words)
    assert "line1" not in " ".join(words)
    assert runtime._client_environment(inherited)["KEY"] == "line1\nline2"


def test_the_jobs_own_value_wins_over_the_login_environment(monkeypatch):
    monkeypatch.setenv("KEY", "login")
    spec = JobSpec(**{**vars(SPEC), "env": {"KEY": "own\nvalue"}})
    runtime = ContainerRuntime(Job(spec, PATHS, Tree("job-1"), GPUS))
    assert runtime._client_environment(("KEY",))["KEY"] == "own\nvalue"


def test_the_users_other_groups_come_along(monkeypatch):
    monkeypatch.setattr(os, "getgroups", lambda: [1234, os.getegid(), 44])
    words = run_command(SPEC, PATHS, (), "/env")
    assert [words[at + 1] for at, word in enumerate(words) if word == "--group-add"] == [
        "44",
        "1234",
    ]
    assert "--group-add" not in run_command(SPEC, PATHS, (), "/env", rootless=True)
