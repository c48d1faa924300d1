"""`doctor` on practice hosts: nothing to say about a healthy one, and each real damage by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab_program import LabHostShell, Rigup, wait_for

pytestmark = pytest.mark.e2e

Shell = Callable[[str], LabHostShell]
CONFIG = "/etc/rigup-lab-gpus.conf"

OLD_CDI = """\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: all
  containerEdits:
    mounts:
    - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.535.104.05
"""
XID = "NVRM: Xid (PCI:0000:17:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def problems(rigup: Rigup, *words: str, code: int = 1) -> dict[str, dict[str, Any]]:
    done = rigup("doctor", "--host", "lab01", "--json", *words)
    assert done.code == code, done.said
    [row] = json.loads(done.out)
    assert row["result"]["simulated"] is True
    return {one["id"]: one for one in row["result"]["findings"] if one["severity"] == "problem"}


@contextmanager
def damage(host: LabHostShell, broken: str, repaired: str) -> Iterator[None]:
    host.run(broken)
    try:
        yield
    finally:
        host.run(repaired)


def docker_answers(host: LabHostShell) -> None:
    host.run("systemctl reset-failed docker; systemctl start docker")
    wait_for(lambda: host.run("docker info >/dev/null 2>&1 && echo up", check=False), "Docker")


def test_a_healthy_host_has_no_problems_and_is_not_changed(
    provisioned: Rigup, shell: Shell
) -> None:
    host = shell("lab01")
    host.run("touch /run/before-doctor; sleep 0.1")
    assert problems(provisioned, code=0) == {}
    done = provisioned.ok("doctor", "--host", "lab01")
    assert "lab01: healthy" in done.out
    assert "SIMULATED" in done.out
    assert "checked: driver, GPUs, kernel" in done.out
    assert "not checked" not in done.out
    places = "/etc /usr /var/lib/rigup /opt /root /home /boot"
    touched = host.run(f"find {places} -xdev -newer /run/before-doctor -type f 2>/dev/null || true")
    assert touched == ""


def test_docker_is_stopped(provisioned: Rigup, shell: Shell) -> None:
    host = shell("lab01")
    stop = "systemctl stop docker.socket docker.service"
    with damage(host, stop, "systemctl start docker.socket docker.service"):
        found = problems(provisioned)
    assert "Cannot connect to the Docker daemon" in found["docker-silent"]["evidence"]
    docker_answers(host)


def test_dockers_settings_are_broken(provisioned: Rigup, shell: Shell) -> None:
    host = shell("lab01")
    file = "/etc/docker/daemon.json"
    keep = f"mkdir -p /etc/docker; cp -a {file} /root/daemon.json.kept"
    broken = f"{keep}; echo '{{ bad' > {file}; systemctl restart docker || true"
    with damage(host, broken, f"mv /root/daemon.json.kept {file}"):
        found = problems(provisioned)
        assert "invalid character" in found["docker-failed"]["evidence"]
    docker_answers(host)


def test_docker_lost_the_nvidia_runtime(provisioned: Rigup, shell: Shell) -> None:
    host = shell("lab01")
    file = "/etc/docker/daemon.json"
    remove = (
        f"cp -a {file} /root/daemon.json.kept; python3 -c 'import json; "
        f'path = "{file}"; value = json.load(open(path)); value.pop("runtimes", None); '
        f'value.pop("default-runtime", None); json.dump(value, open(path, "w"))\'; '
        "systemctl reset-failed docker; systemctl restart docker"
    )
    with damage(host, remove, f"mv /root/daemon.json.kept {file}; systemctl restart docker"):
        found = problems(provisioned)
    assert "runtimes: " in found["docker-without-nvidia-runtime"]["evidence"]
    docker_answers(host)


def test_an_old_cdi_specification(provisioned: Rigup, shell: Shell) -> None:
    host = shell("lab01")
    write = f"mkdir -p /etc/cdi; cat > /etc/cdi/nvidia.yaml <<'END'\n{OLD_CDI}END"
    with damage(host, write, "rm /etc/cdi/nvidia.yaml"):
        found = problems(provisioned)
    assert "535.104.05" in found["cdi-stale"]["evidence"]
    assert "sudo rm /etc/cdi/nvidia.yaml" in found["cdi-stale"]["fix"]


def test_a_lost_gpu_is_a_problem_and_provision_does_not_end_well(
    provisioned: Rigup, shell: Shell
) -> None:
    """Also where an earlier run has shown that everything works."""
    host = shell("lab01")
    provisioned.ok("provision", "--host", "lab01", timeout=600)
    keep = f"cp {CONFIG} /root/gpus.kept; echo 'fault 1 lost' >> {CONFIG}"
    with damage(host, keep, f"cat /root/gpus.kept > {CONFIG}; rm /root/gpus.kept"):
        found = problems(provisioned)
        done = provisioned("provision", "--host", "lab01", timeout=600)
    assert {"gpu-lost", "gpu-not-listed"} <= set(found)
    assert found["gpu-not-listed"]["evidence"] == "0000:27:00.0"
    assert done.code == 1, done.said
    assert "exactly the host's" not in done.out
    assert "more that do not answer: 0000:27:00.0" in done.said
    assert "power the machine off and on" in done.said


def test_all_gpus_are_lost_and_no_reboot_is_promised(provisioned: Rigup, shell: Shell) -> None:
    host = shell("lab01")
    keep = f"cp {CONFIG} /root/gpus.kept; echo 'fault all lost' >> {CONFIG}"
    with damage(host, keep, f"cat /root/gpus.kept > {CONFIG}; rm /root/gpus.kept"):
        found = problems(provisioned)
        done = provisioned("provision", "--host", "lab01", timeout=600)
    assert "gpu-lost" in found
    assert done.code == 1, done.said
    assert "no GPU on the bus answers (0000:17:00.0, 0000:27:00.0)" in done.said
    assert "power the machine off and on" in done.said
    assert "only a reboot helps" not in done.said


def test_a_card_that_is_on_no_bus_after_a_reboot(provisioned: Rigup, shell: Shell) -> None:
    host, device = shell("lab01"), "/sys/bus/pci/devices/0000:27:00.0"
    provisioned.ok("provision", "--host", "lab01", "--verify", timeout=600)
    [uuid] = host.run(f"sed -n 's/^gpu 1 \\([^ ]*\\) .*/\\1/p' {CONFIG}").split()
    gone = f"cp {CONFIG} /root/gpus.kept; grep -v '^gpu 1 ' /root/gpus.kept > {CONFIG}"
    back = f"cat /root/gpus.kept > {CONFIG}; rm /root/gpus.kept; mv /run/card {device}"
    with damage(host, f"{gone}; mv {device} /run/card", back):
        found = problems(provisioned)
        done = provisioned("provision", "--host", "lab01", timeout=600)
    assert found["gpu-vanished"]["evidence"] == uuid
    assert done.code == 1, done.said
    assert f"no longer on the bus: {uuid}" in done.said
    provisioned.ok("provision", "--host", "lab01", timeout=600)


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        ("hot", "gpu-hot", "96 C, slowdown at 90 C"),
        ("ecc", "ecc.errors.uncorrected.volatile.total", "total: 7"),
    ],
)
def test_a_gpu_that_is_not_well(
    provisioned: Rigup, shell: Shell, fault: str, name: str, words: str
) -> None:
    host = shell("lab01")
    keep = f"cp {CONFIG} /root/gpus.kept; echo 'fault 1 {fault}' >> {CONFIG}"
    with damage(host, keep, f"cat /root/gpus.kept > {CONFIG}; rm /root/gpus.kept"):
        found = problems(provisioned)
    assert words in found[name]["evidence"]
    assert found[name]["subject"].startswith("GPU 1 ")


def test_settings_that_the_running_docker_has_not_read_yet(
    provisioned: Rigup, shell: Shell
) -> None:
    host, file = shell("lab01"), "/etc/docker/daemon.json"
    broken = f"cp -a {file} /root/daemon.json.kept; echo '{{ bad' > {file}"
    with damage(host, broken, f"mv /root/daemon.json.kept {file}"):
        found = problems(provisioned)
    assert "line 1, column 3" in found["docker-settings-invalid"]["evidence"]
    assert "docker-silent" not in found


def test_a_key_file_that_holds_more_than_the_pinned_key_is_replaced(
    provisioned: Rigup, shell: Shell
) -> None:
    host = shell("lab01")
    [file] = host.run("ls /etc/apt/keyrings/rigup-nvidia-*.asc").split()
    before = host.run(f"sha256sum < {file}")
    host.run(f"cp {file} /root/key.kept; cat /root/key.kept >> {file}")
    assert file in problems(provisioned)["signing-key-file"]["evidence"]
    done = provisioned.ok("provision", "--host", "lab01", timeout=600)
    assert "the signing key of nvidia is not the pinned one alone" in done.out
    assert host.run(f"sha256sum < {file}") == before
    assert "0 change(s)" in provisioned.ok("provision", "--host", "lab01").out


def test_the_user_is_outside_the_docker_group(provisioned: Rigup, shell: Shell) -> None:
    host = shell("lab01")
    with damage(host, "gpasswd -d lab docker", "gpasswd -a lab docker"):
        found = problems(provisioned)
    assert "gpasswd -a lab docker" in found["docker-not-for-user"]["fix"]


def test_the_disk_of_the_state_directory_is_full(provisioned: Rigup, shell: Shell) -> None:
    """A small file system of its own, so that the outer machine is not filled."""
    host = shell("lab01")
    full = (
        "mkdir -p /home/lab/.rigup/jobs && mount -t tmpfs -o size=16m full /home/lab/.rigup && "
        "chown lab: /home/lab/.rigup && { dd if=/dev/zero of=/home/lab/.rigup/filler bs=1M || :; }"
    )
    with damage(host, full, "umount /home/lab/.rigup"):
        found = problems(provisioned)
    assert "it holds: rigup's state" in found["disk-nearly-full"]["cause"]
    assert found["disk-nearly-full"]["subject"] == "disk /home/lab/.rigup"


def test_a_container_that_lost_its_gpus(provisioned: Rigup, shell: Shell) -> None:
    """Its control device is taken away, which is what losing the device's permission looks like
    from inside."""
    host = shell("lab01")
    start = (
        "tar -C / -c usr bin sbin lib lib64 --exclude=usr/share | docker import - doctored:1 && "
        "docker run -dit --name doctored --gpus all doctored:1 /bin/sh && "
        "rm /proc/$(docker inspect -f '{{.State.Pid}}' doctored)/root/dev/nvidiactl"
    )
    with damage(host, start, "docker rm -f doctored; docker rmi doctored:1"):
        found = problems(provisioned)["container-gpus-lost"]
    assert found["subject"] == "container doctored"
    assert "while the host still has them" in found["cause"]


def test_a_user_who_needs_a_sudo_password_hears_what_could_not_be_read(
    provisioned: Rigup, shell: Shell
) -> None:
    host = shell("lab01")
    hide = "mv /etc/sudoers.d/lab /root/sudoers.lab; gpasswd -d lab docker"
    with damage(host, hide, "mv /root/sudoers.lab /etc/sudoers.d/lab; usermod -aG docker lab"):
        done = provisioned("doctor", "--host", "lab01")
    assert done.code == 1, done.said
    assert "healthy" not in done.out
    assert "could not be read" in done.out
    assert "--ask-sudo-password" in done.out
    checked, unchecked = done.out.splitlines()[-2:]
    assert "kernel log" not in checked
    assert unchecked.startswith("  not checked: ")
    assert "kernel log" in unchecked


def test_a_captured_kernel_log(rigup: Rigup, tmp_path: Path) -> None:
    log = tmp_path / "dmesg.txt"
    log.write_text(f"[    0.000000] Linux version 6.1\n[ 7131.0] {XID}\n")
    done = rigup("doctor", "--log", str(log))
    assert done.code == 1
    assert "GPU 0000:17:00: Xid 79: GPU has fallen off the bus (at [ 7131.0])" in done.out
    with log.open("rb") as stream:
        piped = rigup("doctor", "--log", "-", stdin=stream)
    assert piped.code == 1
    assert "standard input, line 2" in piped.out


def test_an_unreachable_host_is_an_error(rigup: Rigup, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text("hosts: {gone: {address: 127.0.0.1, port: 9}}\n")
    done = rigup("doctor", "--all", "--inventory", str(inventory))
    assert done.code == 1
    assert done.out == ""
    assert "gone" in done.err
