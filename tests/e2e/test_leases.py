"""Three users and root on one practice host: a GPU never has two jobs, whoever asks and however."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_program import LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

USERS = ("ann", "ben", "eve", "root")
IN_CONTAINERS = "ann"
ADD_USER = """
id {user} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {user}
usermod -aG docker {user}
home=$(getent passwd {user} | cut -d: -f6)
install -d -m 700 -o {user} $home/.ssh
install -m 600 -o {user} ~lab/.ssh/authorized_keys $home/.ssh/authorized_keys
"""
ROOT_LOGIN = "/etc/ssh/sshd_config.d/00-root-by-key.conf"
SCRIPT = """
import json, os, time
gpu = os.environ["CUDA_VISIBLE_DEVICES"] or os.environ["NVIDIA_VISIBLE_DEVICES"]
start = time.time()
time.sleep(2)
print(json.dumps({"gpu": gpu, "start": start, "end": time.time()}))
"""
JOBS_EACH = 2


@pytest.fixture
def inventory(
    with_container: Rigup, shell: Callable[[str], LabHostShell], tmp_path: Path
) -> Iterator[str]:
    """A host entry per user, all of them lab01."""
    host = shell("lab01")
    for user in USERS:
        host.run(ADD_USER.format(user=user))
    host.run(f"echo PermitRootLogin prohibit-password >{ROOT_LOGIN}; systemctl reload ssh")
    image = host.run(
        "docker ps --filter label=rigup.container=torch --format '{{.Image}}' | head -n 1"
    )

    def change(data: dict[str, Any]) -> None:
        lab01 = data["hosts"]["lab01"]
        data["hosts"] = {user: {**lab01, "user": user} for user in USERS}
        data["hosts"][IN_CONTAINERS]["container"] = {"image": image.strip()}
        data.pop("groups", None)

    yield str(with_container.with_hosts(tmp_path, change))
    host.run(f"rm {ROOT_LOGIN}; systemctl reload ssh")
    for user in USERS[:-1]:
        host.run(f"pkill -KILL -u {user}; loginctl disable-linger {user}", check=False)


def test_no_gpu_is_shared(rigup: Rigup, inventory: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "hold.py").write_text(SCRIPT)
    jobs: list[tuple[str, str]] = []
    for _ in range(JOBS_EACH):
        for user in USERS:
            runtime = "container" if user == IN_CONTAINERS else "process"
            words = ("--script", "hold.py", "--gpus", "1", "--runtime", runtime)
            done = rigup.ok("train", *words, "--host", user, "--inventory", inventory, cwd=code)
            jobs.append((user, done.out.strip()))
    told = [_result(rigup, inventory, user, job) for user, job in jobs]
    assert len({one["gpu"] for one in told}) == 2
    for gpu in {one["gpu"] for one in told}:
        turns = sorted((one["start"], one["end"]) for one in told if one["gpu"] == gpu)
        for (_, end), (start, _) in itertools.pairwise(turns):
            assert end <= start, f"{gpu} had two jobs: {turns}"


def test_who_holds_a_gpu_is_told(rigup: Rigup, inventory: str, tmp_path: Path) -> None:
    (tmp_path / "hold.py").write_text("import time\ntime.sleep(60)\n")
    words = ("train", "--script", "hold.py", "--runtime", "process", "--inventory", inventory)
    first = rigup.ok(*words, "--gpus", "2", "--host", "ben", cwd=tmp_path).out.strip()
    second = rigup.ok(*words, "--gpus", "1", "--host", "eve", cwd=tmp_path).out.strip()

    def waiting() -> str:
        told = rigup.ok("describe", second, "--host", "eve", "--inventory", inventory, "--json")
        return str(told.json["job"]["waiting_for"])

    wait_for(lambda: f"leased to {first} of ben" in waiting(), "the reason")
    for user, job in (("ben", first), ("eve", second)):
        rigup.ok("stop", job, "--grace", "0", "--host", user, "--inventory", inventory)


def test_the_directory_is_roots_and_comes_back_after_a_boot(
    rigup: Rigup, inventory: str, shell: Callable[[str], LabHostShell]
) -> None:
    host = shell("lab01")
    assert host.run("stat -c '%U %a' /run/lock/rigup").strip() == "root 1777"
    host.run("rm -rf /run/lock/rigup; systemd-tmpfiles --create")
    assert host.run("stat -c '%U %a' /run/lock/rigup").strip() == "root 1777"


def _result(rigup: Rigup, inventory: str, user: str, job: str) -> dict[str, Any]:
    done = rigup("logs", job, "--follow", "--host", user, "--inventory", inventory, timeout=240)
    assert done.code == 0, done.said
    found: dict[str, Any] = json.loads(done.out.strip().splitlines()[-1])
    return found
