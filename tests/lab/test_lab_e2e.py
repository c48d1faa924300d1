"""Two real practice hosts: provisioned by hand with plain apt, containers see simulated GPUs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.lab import (
    Lab,
    cut_network,
    down,
    local_base,
    power_off,
    power_on,
    restore_network,
    status,
    up,
)

pytestmark = pytest.mark.e2e

PROVISION = """
set -e
curl -fsS "$1" | sudo tee /etc/apt/keyrings/lab.asc > /dev/null
for uri in "$2" "$3"; do echo "deb [signed-by=/etc/apt/keyrings/lab.asc] $uri /"; done |
  sudo tee /etc/apt/sources.list.d/lab.list > /dev/null
sudo apt-get update -qq
install() { sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" > /dev/null 2>&1; }
install docker.io $(apt-cache --names-only search '^docker-cli$' | cut -d' ' -f1)
install nvidia-driver-pinning-580
install nvidia-open
install nvidia-container-toolkit nvidia-container-toolkit-base \\
  libnvidia-container-tools libnvidia-container1
sudo nvidia-ctk runtime configure --runtime=docker 2> /dev/null
sudo systemctl restart docker
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("home")
    try:
        yield up(2, distros=["debian12,debian13"], home=home)
    finally:
        down(home)


def shell(lab: Lab, name: str, script: str, stdin: bytes = b"", **more: str) -> str:
    """What a script prints on a host, over ssh with strict host key checking."""
    host = next(host for host in lab.hosts if host.name == name)
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=5"]
    options += [f"UserKnownHostsFile={lab.home / 'known_hosts'}", "GlobalKnownHostsFile=none"]
    words = ["ssh", "-F", "none", "-i", str(lab.identity), "-p", str(host.port)]
    words += [word for option in options for word in ("-o", option)]
    words += [f"{more.get('user', 'lab')}@127.0.0.1", script]
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def provisioned(lab: Lab) -> Lab:
    """Both hosts with Docker, the driver and the toolkit, and a small image in their engine."""
    assert lab.vendor is not None
    image = local_base()
    archive = subprocess.run(["docker", "save", image], capture_output=True, check=True).stdout
    for host in lab.hosts:
        assert "nvidia" not in shell(lab, host.name, "dpkg-query -W")
        mirrors = lab.vendor.mirrors(host.distro)
        uris = [mirrors["nvidia"]["uri"], mirrors["container_toolkit"]["uri"]]
        words = " ".join([mirrors["nvidia"]["key_url"], *uris])
        shell(lab, host.name, f"bash -s {words}", stdin=PROVISION.encode())
        shell(lab, host.name, "sudo docker load -q", stdin=archive)
        shell(lab, host.name, f"sudo docker tag {image} small")
    return lab


@pytest.mark.parametrize(("name", "major"), [("lab01", "12"), ("lab02", "13")])
def test_hosts_are_real_systemd_machines(lab: Lab, name: str, major: str) -> None:
    assert shell(lab, name, "hostname; systemctl is-system-running").split() == [name, "running"]
    assert shell(lab, name, "cat /etc/debian_version").startswith(f"{major}.")
    assert shell(lab, name, "sudo -n id -un") == "root"
    assert shell(lab, name, "cat /sys/bus/pci/devices/*/vendor").split() == ["0x10de", "0x10de"]


def test_admin_needs_the_password_for_sudo(lab: Lab) -> None:
    password = lab.admin_password_file.read_bytes()
    assert lab.admin_password_file.stat().st_mode & 0o777 == 0o600
    assert shell(lab, "lab01", "sudo -n true || echo refused", user="admin") == "refused"
    asked = shell(lab, "lab01", "sudo -S -p '' id -un", user="admin", stdin=password)
    assert asked == "root"


def test_up_again_keeps_everything(lab: Lab) -> None:
    before = shell(lab, "lab01", "cat /proc/sys/kernel/random/boot_id")
    again = up(1, home=lab.home)
    assert again.hosts == lab.hosts
    assert again.vendor == lab.vendor
    assert shell(lab, "lab01", "cat /proc/sys/kernel/random/boot_id") == before


@pytest.mark.parametrize("name", ["lab01", "lab02"])
def test_containers_see_exactly_the_gpus_they_were_given(provisioned: Lab, name: str) -> None:
    def gpus(options: str) -> list[str]:
        listed = shell(provisioned, name, f"sudo docker run --rm {options} small nvidia-smi -L")
        return listed.splitlines()

    on_host = shell(provisioned, name, "nvidia-smi -L").splitlines()
    assert len(on_host) == 2
    assert all("SIMULATED" in line for line in on_host)
    assert gpus("--gpus all") == on_host
    assert [line.split(": ", 1)[1] for line in gpus("--gpus device=1")] == [
        on_host[1].split(": ", 1)[1]
    ]
    assert "not found" in shell(
        provisioned, name, "sudo docker run --rm small sh -c 'nvidia-smi 2>&1 || true'"
    )


def test_cdi_devices_work_where_docker_knows_cdi(provisioned: Lab) -> None:
    shell(
        provisioned,
        "lab02",
        "sudo nvidia-ctk runtime configure --runtime=docker --cdi.enabled && "
        "sudo systemctl restart docker",
    )
    run = "sudo docker run --rm --device nvidia.com/gpu=1 small nvidia-smi -L"
    assert shell(provisioned, "lab02", run).count("GPU ") == 1


@pytest.mark.parametrize("name", ["lab01", "lab02"])
def test_after_a_power_cut_the_host_boots_with_its_gpus(provisioned: Lab, name: str) -> None:
    question = "cat /proc/sys/kernel/random/boot_id; nvidia-smi -L"
    before = shell(provisioned, name, question).splitlines()
    power_off(name, provisioned.home)
    assert not {host.name: host for host in status(provisioned.home).hosts}[name].running
    power_on(name, provisioned.home)
    after = shell(provisioned, name, question).splitlines()
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_a_cut_network_drops_packets_until_it_is_restored(lab: Lab) -> None:
    cut_network("lab02", lab.home)
    with pytest.raises(AssertionError, match=r"timed out|Connection closed"):
        shell(lab, "lab02", "true")
    restore_network("lab02", lab.home)
    assert shell(lab, "lab02", "echo back") == "back"


def test_unknown_hosts_are_named(lab: Lab) -> None:
    with pytest.raises(UsageError, match="lab09") as caught:
        power_off("lab09", lab.home)
    assert "lab01, lab02" in (caught.value.remedy or "")


def test_down_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("gpu01 ssh-ed25519 AAAA\n")
    made = up(1, home=tmp_path, gpus=0)
    owner = made.hosts[0].container.rsplit("-", 1)[0]
    assert "0x10de" not in shell(made, "lab01", "cat /sys/bus/pci/devices/*/vendor; true")
    assert down(tmp_path) == 1
    assert (tmp_path / "known_hosts").read_text() == "gpu01 ssh-ed25519 AAAA\n"
    assert [path.name for path in (tmp_path / "lab").iterdir()] == ["lock"]
    for listing in (["ps", "--all"], ["volume", "ls"]):
        done = subprocess.run(["docker", *listing], capture_output=True, text=True, check=True)
        assert owner not in done.stdout
    assert down(tmp_path) == 0
