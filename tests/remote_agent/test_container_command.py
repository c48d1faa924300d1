"""The exact `docker run`, and the environment that must not show in it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from fake_docker import FakeDocker

from remote_agent.layout import JobPaths
from remote_agent.protocol.job import CONTAINER, ImagePlan, JobSpec
from remote_agent.runtimes.base import Gpu, Job
from remote_agent.runtimes.container import ContainerRuntime
from remote_agent.runtimes.container_command import (
    ATTACHED,
    BY_PYTHON,
    INTO_LOG,
    container_environment,
    output_without_shell,
    pulling,
    run_command,
)
from remote_agent.runtimes.container_end import refusal
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


def command(spec=SPEC, gpus=(), **others):
    return run_command(spec, PATHS, gpus, "/env", cid_file="/cid", **others)


def test_argv_runs_exactly_and_in_place():
    words = command(gpus=GPUS, output=ATTACHED)
    assert words[:4] == ["docker", "run", "--name", "rigup-job-1"]
    tail = words.index("--entrypoint")
    assert words[tail:] == ["--entrypoint", "python", "pytorch:2.9", "train.py", "--lr", "1e-4"]
    assert "rigup.log=direct" not in words
    options = {word: words[place + 1] for place, word in enumerate(words[:-1])}
    assert options["--gpus"] == '"device=GPU-a,GPU-b"'
    mounts = [words[place + 1] for place, word in enumerate(words) if word == "--mount"]
    shared = [f"{PATHS.root}/{name}" for name in ("work", "outputs", "home")]
    assert mounts == [f"type=bind,source={path},target={path}" for path in shared]
    assert options["--workdir"] == PATHS.work
    assert options["--user"] == f"{os.geteuid()}:{os.getegid()}"
    assert options["--label"] == "rigup.job=job-1"
    assert (options["--volume"], options["--shm-size"]) == ("/data:/data:ro", "16g")
    assert (options["--cidfile"], options["--stop-signal"]) == ("/cid", "SIGTERM")
    assert "--init" in words
    assert "--sig-proxy=false" in words
    assert "--rm" not in words


def test_the_program_writes_into_the_log_itself():
    words = command()
    tail = words[words.index("--entrypoint") + 1 :]
    assert tail == [
        "/bin/sh",
        "pytorch:2.9",
        "-c",
        INTO_LOG,
        "rigup-start",
        "python",
        "train.py",
        "--lr",
        "1e-4",
    ]
    assert f"type=bind,source={PATHS.log},target=/.rigup-log" in words
    assert "rigup.log=direct" in words


def test_the_shell_becomes_the_program_and_all_its_output_is_in_the_log(tmp_path):
    """The same words in this machine's shell."""
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    script = INTO_LOG.replace("/.rigup-log", str(log))
    program = "printf 'a \\377\\r'; printf b >&2; echo \"$0|$1|$2\"; exit 5"
    words = ["sh", "-c", script, "rigup-start", "sh", "-c", program, "x y", "", "$HOME"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, b"", b"")
    assert log.read_bytes() == b"before\na \xff\rbx y||$HOME\n"


def test_python_becomes_the_program_where_there_is_no_shell(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    words = command(output=BY_PYTHON)
    starter = words[words.index("--entrypoint") + 1 :]
    assert starter[:4] == ["python", "pytorch:2.9", "-I", "-c"]
    assert starter[5:] == list(SPEC.argv)
    script = starter[4].replace("/.rigup-log", str(log))
    program = (
        "import os, sys; os.write(2, b'e\\xff\\r'); os.write(1, b'o'); print(sys.argv[1:]);"
        "print(open('/proc/self/status').read().split('SigIgn:')[1].split()[0])"
    )
    plain = [sys.executable, "-c", program, "x y"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, *plain], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    alone = subprocess.run(plain, capture_output=True, check=True)
    assert log.read_bytes() == b"before\n" + alone.stderr + alone.stdout
    log.unlink()
    failed = subprocess.run([sys.executable, "-I", "-c", script, "x"], capture_output=True)
    assert (failed.returncode, failed.stderr[:12]) == (1, b"rigup-start:")


@pytest.mark.parametrize(
    ("program", "output"),
    [("python", BY_PYTHON), ("/opt/bin/python3.12", BY_PYTHON), ("train", ATTACHED)],
)
def test_who_opens_the_log_without_a_shell(program, output):
    assert output_without_shell(JobSpec("job-1", "one", (program,))) == output


@pytest.fixture
def docker(tmp_path, monkeypatch):
    made = FakeDocker(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    return made


def pull_and_run(tmp_path, spec=SPEC):
    paths = JobPaths(str(tmp_path))
    words = pulling(["docker", "run", "x y"], spec, paths)
    done = subprocess.run(words, capture_output=True, check=False)
    log = tmp_path / "log"
    return done.returncode, (log.read_bytes() if log.exists() else b"") + done.stderr


def test_an_image_that_is_there_is_not_pulled(docker, tmp_path):
    docker.answer("run", code=4)
    assert pull_and_run(tmp_path) == (4, b"")
    assert docker.verbs() == ["image", "run"]


def test_the_progress_of_a_pull_is_in_the_log(docker, tmp_path):
    docker.answer("image", code=1)
    docker.answer("pull", "2.9: Pulling from pytorch\n")
    assert pull_and_run(tmp_path) == (0, b"2.9: Pulling from pytorch\n")
    assert docker.calls[1] == ["pull", "pytorch:2.9"]


def test_an_image_that_cannot_be_pulled_is_not_run(docker, tmp_path):
    docker.answer("image", code=1)
    docker.answer("pull", err="Error response from daemon: denied\n", code=1)
    assert pull_and_run(tmp_path) == (125, b"Error response from daemon: denied\n")
    assert "run" not in docker.verbs()


@pytest.mark.parametrize(
    ("image", "plan"),
    [
        ("rigup/pytorch-cpu:0123456789ab", None),
        ("docker.io/rigup/pytorch:1", None),
        ("rigup/pytorch:1", ImagePlan(pull="pytorch/pytorch:2.9", base="pytorch/pytorch:2.9")),
        ("team/image:1", ImagePlan(sender="ann@laptop")),
        ("team/image:1", ImagePlan(pull="mirror.lab/team/image:1")),
    ],
)
def test_an_image_that_came_another_way_is_pulled_from_no_registry(docker, tmp_path, image, plan):
    """Whoever owns that name in a public registry would run programs in the job."""
    docker.answer("image", "[]", err=f"Error response from daemon: No such image: {image}", code=1)
    code, said = pull_and_run(tmp_path, replace(SPEC, image=image, image_plan=plan))
    assert docker.verbs() == ["image"]
    problem = refusal(said.decode().splitlines(), replace(SPEC, image=image))
    assert (code, problem.evidence) == (125, f"its image {image} is not on the host any more")
    assert "run it again" in problem.hint


def test_docker_that_is_away_is_not_an_image_that_is_gone(docker, tmp_path):
    docker.away()
    spec = replace(SPEC, image="rigup/pytorch:1")
    _, said = pull_and_run(tmp_path, spec)
    assert "Cannot connect" in refusal(said.decode().splitlines(), spec).evidence


def test_an_image_that_was_pulled_under_its_name_is_pulled_again(docker, tmp_path):
    docker.answer("image", code=1)
    plan = ImagePlan(pull="pytorch:2.9")
    assert pull_and_run(tmp_path, replace(SPEC, image_plan=plan)) == (0, b"")
    assert docker.verbs() == ["image", "pull", "run"]


def test_no_gpu_flags_without_gpus():
    assert "--gpus" not in command()
    assert container_environment(SPEC, PATHS, ())["CUDA_VISIBLE_DEVICES"] == ""


def test_rootless_docker_maps_users_itself():
    assert "--user" not in command(rootless=True)


def test_environment():
    env = container_environment(SPEC, PATHS, GPUS)
    assert env["HOME"] == PATHS.home
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert (env["RIGUP_GPUS"], env["HF_HOME"], env["PYTHONUNBUFFERED"]) == ("0,3", "/data", "1")


def test_values_travel_in_a_private_file(tmp_path):
    spec = JobSpec(**{**vars(SPEC), "env": {"TOKEN": "s3cret", "KEY": "line1\nline2"}})
    paths = JobPaths(str(tmp_path))
    runtime = ContainerRuntime(Job(spec, paths, Tree("job-1"), GPUS))
    inherited = runtime._write_environment()
    assert os.stat(paths.container_env).st_mode & 0o777 == 0o600
    text = (tmp_path / "container.env").read_text()
    assert "TOKEN=s3cret\n" in text
    assert inherited == ("KEY",)
    words = command(spec, inherited=inherited)
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
    words = command()
    assert [words[at + 1] for at, word in enumerate(words) if word == "--group-add"] == [
        "44",
        "1234",
    ]
    assert "--group-add" not in command(rootless=True)
