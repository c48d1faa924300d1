"""Docker's configuration on real hosts: merged, never lost, and put back when Docker refuses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab_program import LabHostShell, Rigup

pytestmark = pytest.mark.e2e

FILE = "/etc/docker/daemon.json"
DROP_IN = "/etc/systemd/system/docker.service.d/rigup-test.conf"


@pytest.fixture(params=["lab01", "lab02"])
def host(provisioned: Rigup, request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def on_host(host: str, shell: Callable[[str], LabHostShell]) -> Iterator[LabHostShell]:
    """The host's daemon.json is put back as it was."""
    here = shell(host)
    here.run(f"cp -a {FILE} /root/daemon.json.kept; rm -f {FILE}.rigup-backup-*")
    yield here
    here.run(
        f"mv -f /root/daemon.json.kept {FILE}; rm -f {FILE}.rigup-backup-* {DROP_IN}\n"
        "rm -rf /run/rigup; systemctl daemon-reload; systemctl reset-failed docker\n"
        "systemctl restart docker"
    )


def write(on_host: LabHostShell, content: str, *, restart: bool = True) -> None:
    on_host.run(f"cat > {FILE} <<'END'\n{content}\nEND")
    if restart:
        on_host.run("systemctl restart docker")


def read(on_host: LabHostShell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on_host.run(f"cat {FILE}"))
    return found


def test_an_admins_keys_survive_a_real_restart(
    provisioned: Rigup, host: str, on_host: LabHostShell
) -> None:
    admins = {"log-driver": "local", "labels": ["team=vision"], "shutdown-timeout": 7}
    write(on_host, json.dumps(admins))
    done = provisioned.ok("provision", "--host", host)
    assert "daemon.json lacks live-restore" in done.out
    merged = read(on_host)
    assert {key: merged[key] for key in admins} == admins
    assert merged["live-restore"] is True
    assert merged["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    assert "log-opts" not in merged
    told = on_host.run("docker info --format '{{.LoggingDriver}} {{.Labels}} {{.Runtimes.nvidia}}'")
    assert told.startswith("local [team=vision] ")
    assert "nvidia-container-runtime" in told
    backups = on_host.run(f"cat $(ls -t {FILE}.rigup-backup-* | tail -n 1)")
    assert json.loads(backups) == admins
    assert "0 change(s)" in provisioned.ok("provision", "--host", host).out


def test_a_broken_daemon_json_is_named_and_left_alone(
    provisioned: Rigup, host: str, on_host: LabHostShell
) -> None:
    broken = '{\n  "labels": ["team=vision"],\n  "debug": maybe\n}'
    write(on_host, broken, restart=False)
    done = provisioned("provision", "--host", host)
    assert done.code == 3, done.said
    assert f"{FILE} is not valid: line 3, column 12: Expecting value" in done.said
    assert on_host.run(f"cat {FILE}").strip() == broken


def test_the_old_file_is_back_when_docker_does_not_come_up_with_the_new_one(
    provisioned: Rigup, host: str, on_host: LabHostShell
) -> None:
    write(on_host, '{"labels": ["team=vision"]}')
    # Not running with it yet, so nobody can see that the flag will exclude the key.
    on_host.run(
        "unit=$(systemctl cat docker | sed -n 's/^ExecStart=//p' | tail -n 1)\n"
        f"mkdir -p $(dirname {DROP_IN})\n"
        f'printf "[Service]\\nExecStart=\\nExecStart=%s --live-restore\\n" "$unit" > {DROP_IN}\n'
        "systemctl daemon-reload"
    )
    done = provisioned("provision", "--host", host)
    assert done.code == 1, done.said
    assert "Docker does not come up with the merged /etc/docker/daemon.json" in done.said
    assert "live-restore" in done.said
    assert "the file is as it was, and Docker runs with it" in done.said
    assert read(on_host) == {"labels": ["team=vision"]}
    assert on_host.run("docker info --format '{{.Labels}}'").strip() == "[team=vision]"


def test_running_containers_live_through_it(
    provisioned: Rigup, host: str, on_host: LabHostShell
) -> None:
    write(on_host, '{"labels": ["team=vision"]}')
    files = "$(ldd /bin/sleep | grep -o '/[^ ]*')"
    image = on_host.run(f"tar -C / -ch bin/sleep {files} 2>/dev/null | docker import -").strip()
    started = f"docker run -d --name keeps {image} /bin/sleep 3600"
    asked = "docker inspect -f '{{.State.Pid}} {{.State.StartedAt}}' keeps"
    try:
        before = on_host.run(f"{started} >/dev/null && {asked}")
        plan = provisioned.ok("provision", "--host", host, "--check")
        assert "systemctl reload docker.service" in plan.out
        provisioned.ok("provision", "--host", host)
        assert on_host.run(asked) == before
        assert on_host.run("docker info --format '{{.LiveRestoreEnabled}}'").strip() == "true"
        assert on_host.run("docker info --format '{{.Runtimes.nvidia.Path}}'").strip()
    finally:
        on_host.run(f"docker rm -f keeps; docker rmi -f {image}", check=False)
