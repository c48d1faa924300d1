"""The Docker fact's script over a made-up host."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from provisioner.facts.base import PRELUDE, Output
from provisioner.facts.docker import SCRIPT, DockerFacts, parse

INFO = '{"ServerVersion":"28.5.2","ContainersRunning":0,"Runtimes":{"runc":{}}}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("bin", "run", "etc", "proc/77"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def program(root: Path, name: str, script: str) -> None:
    path = root / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def docker(root: Path) -> DockerFacts:
    script = re.sub(r"(?<![\w.])/(run|etc|proc|snap)\b", lambda found: f"{root}{found[0]}", SCRIPT)
    done = subprocess.run(
        ["sh", "-s"],
        input=f'{PRELUDE}PATH="{root}/bin:$PATH"\n{script}',
        capture_output=True,
        text=True,
        timeout=60,
    )
    return parse(Output(done.stdout, done.returncode))


def test_an_engine_that_the_question_wakes_is_systemds(root: Path) -> None:
    program(root, "docker", f"touch {root}/awake; echo '{INFO}'")
    program(root, "systemctl", f"[ -e {root}/awake ] && echo ActiveState=active; exit 0")
    found = docker(root)
    assert (found.server_version, found.active) == ("28.5.2", True)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("/usr/bin/dockerd\0-H\0fd://\0", None),
        ("/usr/bin/dockerd\0--config-file=/opt/a.json\0--debug\0", "/opt/a.json"),
        ("/usr/bin/dockerd\0--config-file\0/opt/b.json\0", "/opt/b.json"),
    ],
)
def test_the_file_that_dockerd_was_told_to_read(root: Path, line: str, file: str | None) -> None:
    (root / "run/docker.pid").write_text("77")
    (root / "proc/77/cmdline").write_text(line)
    for name in ("limits", "status"):
        (root / "proc/77" / name).write_text("")
    program(root, "docker", f"echo '{INFO}'")
    assert docker(root).config_file == file
