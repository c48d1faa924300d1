"""Plain ``ssh lab01-torch`` after ``container.up``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lab_program import Rigup

pytestmark = pytest.mark.e2e

BATCH = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20")


def ssh(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def test_plain_ssh_prints_the_torch_version(with_container: Rigup) -> None:
    done = ssh(*BATCH, "lab01-torch", 'python -c "import torch; print(torch.__version__)"')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.13.0")


def test_the_container_sees_the_simulated_gpus(with_container: Rigup) -> None:
    done = ssh(*BATCH, "lab01-torch", "nvidia-smi -L")
    assert done.stdout.count("SIMULATED") == 2, done.stderr


def test_passwords_are_refused(with_container: Rigup) -> None:
    words = (
        "-o",
        "PubkeyAuthentication=no",
        "-o",
        "PreferredAuthentications=password,keyboard-interactive",
    )
    done = ssh("-v", *BATCH, *words, "lab01-torch", "true")
    assert done.returncode == 255
    assert "Authentications that can continue: publickey\n" in done.stderr.replace("\r", "")


def test_the_port_is_on_the_hosts_loopback_only(with_container: Rigup, shell) -> None:
    listening = shell("lab01").run("ss -ltnH")
    published = [row.split()[3] for row in listening.splitlines()]
    assert all(
        address.startswith(("127.0.0.1:", "[::1]:"))
        for address in published
        if not address.endswith(":22")
    ), published


def test_up_again_changes_nothing_and_list_shows_it(with_container: Rigup) -> None:
    with_container.ok("container.up", "--host", "lab01")
    [row] = [
        row for row in with_container.ok("container.list", "--json").json if row["host"] == "lab01"
    ]
    assert len(row["result"]) == 1


BROKEN_IMAGE = """
docker rm -f broken >/dev/null 2>&1
docker create --name broken {image} true >/dev/null
docker commit --change 'ENTRYPOINT ["/bin/false"]' broken broken-image >/dev/null
docker rm broken >/dev/null
"""


def container_id(shell, name: str = "torch") -> str:
    listed = shell("lab01").run(
        f"docker ps -aq --no-trunc --filter label=rigup.container={name} --filter status=running"
    )
    return str(listed).strip()


def test_gpus_that_do_not_exist_are_refused_before_anything_is_removed(
    with_container: Rigup, shell
) -> None:
    before = container_id(shell)
    done = with_container("container.up", "--host", "lab01", "--gpus", "7", "--recreate")
    assert done.code == 2
    assert "GPU 7 does not exist on lab01 (it has 0, 1)" in done.err
    assert container_id(shell) == before


def test_a_replacement_that_does_not_work_leaves_the_old_container(
    with_container: Rigup, shell
) -> None:
    assert ssh(*BATCH, "lab01-torch", "echo mine > ~/kept").returncode == 0
    before = container_id(shell)
    image = shell("lab01").run("docker inspect --format '{{.Config.Image}}' " + before).strip()
    shell("lab01").run(BROKEN_IMAGE.format(image=image))
    words = ("--host", "lab01", "--image", "broken-image", "--recreate")
    done = with_container("container.up", *words, timeout=180)
    assert done.code == 1, done.said
    assert "there before is there again" in done.err
    assert container_id(shell) == before
    with_container.ok("container.up", "--host", "lab01")
    assert ssh(*BATCH, "lab01-torch", "cat ~/kept").stdout == "mine\n"


def test_a_container_in_use_is_not_removed_without_a_yes(with_container: Rigup, shell) -> None:
    before = container_id(shell)
    with subprocess.Popen(
        ["ssh", *BATCH, "lab01-torch", "echo in; sleep 60"], stdout=subprocess.PIPE
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"in\n"
        done = with_container("container.down", "--host", "lab01")
        session.kill()
    assert done.code == 3
    assert "1 open SSH session" in done.said or "sleep 60" in done.said
    assert with_container("container.down", "--host", "lab01", "--forget").code == 3
    assert container_id(shell) == before


def test_an_idle_container_is_removed_without_a_question(with_container: Rigup, shell) -> None:
    shell("lab01").run("docker restart -t 1 $(docker ps -q --filter label=rigup.container=torch)")
    with_container.ok("container.up", "--host", "lab01")  # waits until its sshd answers
    assert with_container("container.down", "--host", "lab01").code == 0
    with_container.ok("container.up", "--host", "lab01")


def test_the_shell_in_the_container_is_rigups_whatever_the_ssh_configuration_says(
    with_container: Rigup, ssh_config: None
) -> None:
    config = Path("~/.ssh/config").expanduser()
    before = config.read_text()
    config.write_text("Host lab01-torch\n  HostName 192.0.2.66\n  ConnectTimeout 2\n" + before)
    try:
        done = with_container("container.ssh", "--host", "lab01", "--", "hostname")
    finally:
        config.write_text(before)
    assert done.code == 0, done.err
    assert done.out.strip() == "lab01-torch"
