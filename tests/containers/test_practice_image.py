"""The practice image, built and run for real on this machine's own Docker."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pytest

from provisioner.containers.build import build_local_image
from provisioner.containers.engine import ContainerInfo, choose_port, down, look_at_host, up
from provisioner.containers.services import start_jupyter, start_tensorboard
from provisioner.containers.spec import ContainerSpec, Login, Mount
from provisioner.transport.local import LocalTransport

pytestmark = pytest.mark.e2e

HOST = LocalTransport("here")
UID, GID = 54321, 54322
ROOTS_PROGRAMS = ("getent", "mkdir", "awk", "cut", "chown", "chmod", "cp", "cat", "usermod", "sh")
VERSION = 'python -c "import torch; print(torch.__version__)"'


@dataclass(frozen=True)
class Box:
    """A running container and the files with which it is reached."""

    spec: ContainerSpec
    info: ContainerInfo
    folder: Path

    def ssh(self, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        strict = ("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-F", "/dev/null")
        known = ("-o", f"UserKnownHostsFile={self.folder}/known_hosts")
        keys = ("-i", f"{self.folder}/id", "-o", "IdentitiesOnly=yes")
        where = ("-p", str(self.spec.ssh_port), f"{self.info.user}@127.0.0.1")
        return subprocess.run(
            ["ssh", *options, *strict, *known, *keys, *where, *words],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def run(self, line: str) -> str:
        done = self.ssh(line)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def public_key(folder: Path) -> str:
    return (folder / "id.pub").read_text()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A container for a user that this machine does not have, with a mount and two settings."""
    folder = tmp_path_factory.mktemp("box")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id"], check=True)
    for name in ("keys", "work"):
        (folder / name).mkdir()
        os.chown(folder / name, UID, GID)
    spec = ContainerSpec(
        name=f"test-{os.getpid()}",
        image=build_local_image(),
        login=Login("ana", UID, GID),
        ssh_port=choose_port("test", look_at_host(HOST), []),
        keys_dir=PurePosixPath(folder / "keys"),
        mounts=(Mount(str(folder / "work"), "/work"),),
        environment=(("NCCL_DEBUG", "it's $HOME"), ("UNLISTED", "x")),
        large_limits=False,
    )
    try:
        yield start(spec, folder)
    finally:
        down(HOST, spec.name, UID, forget=True)


def start(spec: ContainerSpec, folder: Path, *, recreate: bool = False) -> Box:
    info = up(HOST, spec, [public_key(folder)], recreate=recreate)
    os.chown(folder / "keys" / "authorized_keys", UID, GID)
    lines = [f"[127.0.0.1]:{spec.ssh_port} {kind} {text}\n" for kind, text in info.host_keys]
    (folder / "known_hosts").write_text("".join(lines))
    return Box(spec, info, folder)


def test_a_command_over_ssh_finds_python_and_torch(box: Box) -> None:
    assert box.run(VERSION) == "2.13.0+cpu"
    for name in ("python3", "pip", "torchrun", "jupyter", "tensorboard"):
        assert box.run(f"command -v {name}") == f"/opt/venv/bin/{name}"


def test_a_login_shell_finds_them_too(box: Box) -> None:
    assert box.run("bash -lc 'command -v python'") == "/opt/venv/bin/python"


def test_the_examples_needs_are_installed(box: Box) -> None:
    box.run('python -c "import transformers, peft, tensorboard, jupyterlab"')


def test_only_keys_are_offered_and_accepted(box: Box) -> None:
    methods = "PreferredAuthentications=password,keyboard-interactive"
    done = box.ssh("true", options=("-v", "-o", "PubkeyAuthentication=no", "-o", methods))
    assert done.returncode == 255
    offered = re.findall(r"Authentications that can continue: (\S+)", done.stderr)
    assert set(offered) == {"publickey"}


def test_another_key_and_another_user_are_refused(box: Box, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True
    )
    (tmp_path / "known_hosts").write_text((box.folder / "known_hosts").read_text())
    assert replace(box, folder=tmp_path).ssh("true").returncode == 255
    assert box.ssh("true", options=("-l", "root")).returncode == 255


def test_files_on_a_mount_belong_to_the_hosts_user(box: Box) -> None:
    box.run("touch /work/made-inside")
    made = (box.folder / "work" / "made-inside").stat()
    assert (made.st_uid, made.st_gid) == (UID, GID)


def test_sessions_get_the_listed_variables_and_no_others(box: Box) -> None:
    assert box.run('echo "$NCCL_DEBUG"; bash -lc \'echo "$NCCL_DEBUG"\'') == "\n".join(
        ["it's $HOME"] * 2
    )
    assert "UNLISTED" not in box.run("env")
    assert box.run("echo $NVIDIA_VISIBLE_DEVICES") == "void"


def test_the_user_may_install_packages(box: Box) -> None:
    assert box.run(
        "test -w $(python -c 'import site; print(site.getsitepackages()[0])') && echo ok"
    )


def test_no_host_key_is_in_the_image(box: Box) -> None:
    words = ["docker", "run", "--rm", "--entrypoint", "find", box.spec.image]
    done = subprocess.run(
        [*words, "/etc/ssh", "/var/lib/rigup", "-name", "ssh_host_*"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


def test_another_command_runs_as_it_is(box: Box) -> None:
    words = ["docker", "run", "--rm", "--user", f"{UID}:{GID}", box.spec.image]
    done = subprocess.run(
        [*words, "python", "-c", "import os; print(os.getuid())"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(UID), done.stderr


def test_up_again_changes_nothing(box: Box) -> None:
    assert not up(HOST, box.spec, [public_key(box.folder)]).changed


def test_forwarding_works(box: Box) -> None:
    done = box.ssh(options=("-W", "127.0.0.1:22"))
    assert done.stdout.startswith("SSH-2.0")


def test_jupyter_wants_its_token_and_is_on_loopback_only(box: Box) -> None:
    service = start_jupyter(HOST, box.info)
    assert service.token is not None
    status = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8888/api/contents"
    assert box.run(status) == "403"
    token = service.token.reveal()
    assert box.run(f"{status} -H 'Authorization: token {token}'") == "200"
    assert token not in box.run("ps -ef; cat ~/.rigup-services/*.log")
    assert box.run("stat -c %a ~/.rigup-services/jupyter_config.json") == "600"
    assert box.run("grep -c '00000000:22B8 ' /proc/net/tcp || true") == "0"
    assert start_jupyter(HOST, box.info) == service


def test_tensorboard_shows_a_run_through_ssh(box: Box) -> None:
    service = start_tensorboard(HOST, box.info, "/work")
    done = box.ssh(options=("-W", f"127.0.0.1:{service.port}"))
    assert done.returncode == 0, done.stderr
    page = box.run(f"curl -s http://127.0.0.1:{service.port}/")
    assert "TensorBoard" in page


def test_what_the_user_puts_on_the_path_is_not_run_by_root(box: Box) -> None:
    """At a restart, when the container's first process looks at users and folders."""
    for name in ROOTS_PROGRAMS:
        real = box.run(f"PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v {name}")
        planted = f"/opt/venv/bin/{name}"
        box.run(f"printf '#!/bin/sh\\nid -u >>/tmp/ran\\nexec {real} \"$@\"\\n' >{planted}")
        box.run(f"chmod 755 {planted}; rm -f ~/.bashrc")
    try:
        subprocess.run(["docker", "restart", box.spec.docker_name], check=True)
        up(HOST, box.spec, [public_key(box.folder)])
        assert "/opt/venv/bin" in box.run("echo $PATH")
        assert box.run("cat /tmp/ran 2>/dev/null | sort -u") in ("", str(UID))
        assert box.run("stat -c %u ~/.bashrc") == str(UID)
    finally:
        box.run("cd /opt/venv/bin && rm -f " + " ".join(ROOTS_PROGRAMS))


def test_home_and_host_key_survive_a_new_container(box: Box) -> None:
    box.run("echo kept > ~/kept; echo lost > /tmp/lost")
    again = start(replace(box.spec, shm_size="1g"), box.folder, recreate=True)
    assert again.info.host_keys == box.info.host_keys
    assert again.run("cat ~/kept; cat /tmp/lost 2>/dev/null || true") == "kept"
    assert "1.0G" in again.run("df -h /dev/shm")
