"""What a user reads when practice hosts cannot be made here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.errors import ExitCode, LabError
from provisioner.lab import images
from provisioner.lab.docker import Docker


def client(tmp_path: Path, stderr: str, status: int) -> Docker:
    """A docker client that says this and exits so."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{stderr}\nEND\nexit {status}\n")
    program.chmod(0o755)
    return Docker(str(program))


def refusal(docker: Docker) -> LabError:
    with pytest.raises(LabError) as caught:
        docker.require()
    assert caught.value.exit_code == ExitCode.FAILED
    return caught.value


def test_no_docker_at_all(tmp_path: Path) -> None:
    error = refusal(Docker(str(tmp_path / "nothing-here")))
    assert "need Docker" in error.message
    assert "docker.io" in (error.remedy or "")


def test_a_docker_that_cannot_be_executed(tmp_path: Path) -> None:
    docker = client(tmp_path, "", 0)
    Path(docker.program).chmod(0o644)
    assert "cannot be started" in refusal(docker).message


def test_what_was_built_here_is_not_asked_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = client(tmp_path, "", 0)
    Path(hanging.program).write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("RIGUP_DEBIAN_MIRROR", "http://mirror.example/debian")
    monkeypatch.setattr(images, "KNOWN_TIMEOUT_S", 0.1)
    assert images.known_base() is None
    Path(hanging.program).chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert images.known_base() is None


def test_daemon_not_running(tmp_path: Path) -> None:
    said = (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
        "Is the docker daemon running?"
    )
    error = refusal(client(tmp_path, said, 1))
    assert error.message == "the Docker daemon is not running"
    assert "systemctl start docker" in (error.remedy or "")


def test_not_allowed(tmp_path: Path) -> None:
    said = (
        "permission denied while trying to connect to the Docker daemon socket at "
        "unix:///var/run/docker.sock"
    )
    error = refusal(client(tmp_path, said, 1))
    assert "may not use" in error.message
    assert "docker group" in (error.remedy or "")


def test_anything_else_shows_what_docker_said(tmp_path: Path) -> None:
    assert "context deadline" in refusal(client(tmp_path, "context deadline exceeded", 1)).message


def test_a_failed_command_shows_itself_and_the_end_of_its_output(tmp_path: Path) -> None:
    docker = client(tmp_path, "\n".join(f"line {number}" for number in range(30)), 125)
    with pytest.raises(LabError) as caught:
        docker.run("run", "--name", "x", "image", "secret-argument")
    assert "exited with 125" in str(caught.value)
    assert "line 29" in str(caught.value)
    assert "line 3\n" not in str(caught.value)
    assert "secret-argument" not in str(caught.value)
