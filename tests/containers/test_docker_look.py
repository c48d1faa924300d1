"""One look at a host's Docker: the script in a real shell, and what is made of its answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from fake_docker import AWAY, FakeDocker

from provisioner.command import Command
from provisioner.containers.docker_look import (
    DockerLook,
    look_script,
    parse_look,
    plain_reference,
)
from provisioner.containers.spec import ContainerSpec, Login
from provisioner.transport.local import LocalTransport

ID = "sha256:be6d436453870211bdac5c47d654c39d5847cdcf9e10873494ebeec6874bcd59"
DIGEST = "sha256:3ecc14a1f4245f9e4bef4021bf818a69c77eabf853fee6dc36ec66956c455546"
TAGGED = f"docker|image|{ID}|team/image|1|<none>"
USABLE = "docker|usable\n"


def spec_line(name: str, image: str) -> str:
    spec = ContainerSpec(name, image, Login("ana", 1000, 1000), 22200, PurePosixPath("/k"))
    return f"docker|spec|{spec.to_label()}"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path)
    monkeypatch.setenv("PATH", str(fake.bin), prepend=":")
    return fake


def look(*references: str) -> DockerLook:
    """Embedded as it is used: more commands follow."""
    script = f"echo before\n{look_script()}\necho after"
    answer = LocalTransport().run(Command.sh(script))
    assert answer.ok
    assert answer.text.startswith("before\n")
    assert answer.text.endswith("after\n")
    return parse_look(answer.text, references)


def test_a_usable_docker_tells_images_space_and_containers(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("ps", f"{spec_line('b', 'second')}\n{spec_line('a', 'first')}\n")
    docker.answer("image", TAGGED + "\n")
    docker.answer("info", f"{tmp_path}|[[Backing Filesystem extfs]]\n")
    found = look("docker.io/team/image:1", "team/other:1")
    assert found.usable
    assert found.images == {"team/image:1", "docker.io/team/image:1"}
    assert found.running == ("first", "second")
    assert found.root == str(tmp_path)
    assert found.free_bytes is not None
    assert abs(found.free_bytes - shutil.disk_usage(tmp_path).free) < 1 << 30
    assert found.machine == os.uname().machine
    assert docker.verbs() == ["ps", "image", "info"]


def test_without_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sh", "sed", "timeout", "df", "awk", "id"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look("x") == DockerLook(usable=False, problem="Docker is not installed")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket",
            "the login user may not use Docker: permission denied",
        ),
        (AWAY, "Docker does not answer: Cannot connect"),
        ("", "Docker does not answer: no answer"),
        ("\x1b[2Jevil", "Docker does not answer: \N{REPLACEMENT CHARACTER}[2Jevil"),
    ],
)
def test_a_docker_that_refuses_says_why(docker: FakeDocker, said: str, problem: str) -> None:
    docker.answer("ps", err=said, code=1)
    found = look("x")
    assert not found.usable
    assert found.problem.startswith(problem)
    assert docker.verbs() == ["ps"]


def test_what_else_fails_is_not_known_and_nothing_more(docker: FakeDocker) -> None:
    docker.answer("ps", err="WARNING: Error loading config file")
    docker.answer("image", err="broken", code=1)
    docker.answer("info", err="broken", code=1)
    assert look("x") == DockerLook(usable=True, machine=os.uname().machine)


@pytest.mark.parametrize("rest", ["", "|", "relative|x", "/no/such/folder|x"])
def test_space_of_a_place_that_is_not_there_is_not_known(docker: FakeDocker, rest: str) -> None:
    docker.answer("info", rest)
    assert look() == DockerLook(usable=True, machine=os.uname().machine)


@pytest.mark.parametrize(
    ("asked", "is_there"),
    [
        ("team/image:1", True),
        ("docker.io/team/image:1", True),
        ("index.docker.io/team/image:1", True),
        ("team/image", False),
        ("team/image:2", False),
        ("debian", True),
        ("docker.io/library/debian:latest", True),
        (f"debian@{DIGEST}", True),
        (f"team/image@{DIGEST}", False),
        (ID, True),
        (ID.removeprefix("sha256:")[:12], True),
        ("be6d43", False),
        ("0123456789ab", False),
        ("registry.example:5000/team/image:1", False),
        ("", False),
    ],
)
def test_an_image_is_found_however_its_name_is_written(asked: str, is_there: bool) -> None:
    other = ID.replace("be6d", "0000")
    rows = [TAGGED, f"docker|image|{other}|debian|latest|{DIGEST}"]
    found = parse_look(USABLE + "\n".join(rows), [asked])
    assert (asked in found.images) is is_there


def test_a_host_does_not_say_what_was_asked() -> None:
    """Each line would be compared with every image."""
    rows = [f"docker|asked|{ID[7:19]}", "docker|asked|team/image:1", TAGGED]
    assert parse_look(USABLE + "\n".join(rows)).images == {"team/image:1"}
    assert "asked" not in look_script()


def test_an_image_that_was_not_asked_for_is_known_too() -> None:
    found = parse_look(USABLE + TAGGED)
    assert found.has("docker.io/team/image:1")
    assert found.has("team/image:1")
    assert not found.has("team/image")


@pytest.mark.parametrize(
    "line",
    [
        "docker|image",
        "docker|image|",
        "docker|image|sha256:1|team/image|1|",
        f"docker|image|{ID}|<none>|<none>|<none>",
        f"docker|image|{ID}",
        f"docker|image|{ID}|\x1b[2J|1|<none>",
        f"docker|image|{ID}|{'a' * 600}|1|<none>",
        f"docker|image|{ID}|-v|1|<none>",
        "docker|disk|",
        "docker|disk|many|/var/lib/docker",
        "docker|disk|-5|/var/lib/docker",
        f"docker|disk|{'9' * 400}|/var/lib/docker",
        "docker|machine|",
        "docker|machine|x86_64 \x1b",
        "docker|spec|",
        "docker|spec|{}",
        "docker|spec|[[[",
        spec_line("a", "image").replace('"image":"image"', '"image":7'),
        spec_line("a", "image").replace('"image":"image"', '"image":"--privileged"'),
        "docker|unheard of|x",
        "image|x",
        "docker|\0",
    ],
)
def test_lines_that_make_no_sense_count_for_nothing(line: str) -> None:
    assert parse_look(f"{USABLE}{line}\n") == DockerLook(usable=True)


@pytest.mark.parametrize("text", ["", "Welcome!", "docker|", "usable", "docker|usable|", "docker"])
def test_an_answer_without_an_answer(text: str) -> None:
    found = parse_look(text)
    assert found.usable is (text == "docker|usable|")
    assert found.usable or "did not say" in found.problem


def test_a_root_cannot_write_on_a_terminal() -> None:
    found = parse_look(f"{USABLE}docker|disk|1024|/var\x1b[2J\n")
    assert found.free_bytes == 1 << 20
    assert "\x1b" not in found.root
    assert replace(found, root="") == DockerLook(usable=True, free_bytes=1 << 20)


@pytest.mark.parametrize(
    ("reference", "plain"),
    [
        ("debian", "debian:latest"),
        ("localhost:5000/debian", "localhost:5000/debian:latest"),
        ("docker.io/debian:12", "debian:12"),
        ("team/library/x:1", "team/library/x:1"),
    ],
)
def test_the_plain_form_of_a_reference(reference: str, plain: str) -> None:
    assert plain_reference(reference) == plain


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_the_script_is_sound() -> None:
    words = ["shellcheck", "-s", "sh", "-"]
    done = subprocess.run(words, input=look_script().encode(), capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
