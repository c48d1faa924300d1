"""A host behind a proxy that signs TLS again, and disks that are too full: found before any change,
and gone through once the inventory says how. A container's clock cannot be set apart from this
machine's, so clocks are tested from tables only (tests/cases/steps/preflight.yaml)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lab_program import Done, LabHostShell, Rigup

pytestmark = pytest.mark.e2e

HOST = "lab02"
VENDOR = "vendor.example"
"""A name that only the proxy knows."""

PROXY = Path(__file__).parents[1] / "support" / "forward_proxy.py"

PURGE = """\
apt-get purge -y --allow-change-held-packages 'nvidia-*' 'libnvidia-*' >/dev/null 2>&1
rm -f /etc/apt/keyrings/rigup-* /etc/apt/sources.list.d/rigup-*
rm -rf /var/lib/apt/lists/*
"""
CUT_OFF = """\
iptables -A OUTPUT -o lo -j ACCEPT
iptables -A OUTPUT -p tcp --sport 22 -j ACCEPT
iptables -A OUTPUT -p tcp -d {address} --dport {port} -j ACCEPT
iptables -A OUTPUT -j REJECT
"""


@dataclass
class Company:
    """A network whose only way out is a proxy that signs TLS again."""

    rigup: Rigup
    shell: LabHostShell
    directory: Path
    address: str
    port: int

    def provision(self, *words: str, **mirrors: Any) -> Done:
        """The host with vendor repositories behind the proxy, and these settings of its own."""

        def behind(data: dict[str, Any]) -> None:
            own = data["hosts"][HOST]["mirrors"]
            for repository in ("nvidia", "container_toolkit"):
                for key in ("uri", "key_url"):
                    path = urlsplit(own[repository][key]).path
                    own[repository][key] = f"https://{VENDOR}{path}"
            own.update(mirrors)

        inventory = self.rigup.with_hosts(self.directory, behind)
        return self.rigup("provision", "--host", HOST, "--inventory", str(inventory), *words)

    @property
    def proxy(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def authority(self) -> str:
        return str(self.directory / "ca.pem")

    def asked(self) -> str:
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""

    def packages(self) -> str:
        return self.shell.run("dpkg -l | sha256sum; ls -R /etc/apt | sha256sum")


@pytest.fixture(scope="module")
def bare(provisioned: Rigup) -> Iterator[LabHostShell]:
    """The host with all of NVIDIA's still to be installed; provisioned again at the end."""
    listed = provisioned.ok("lab.status", "--json").json["hosts"]
    shell = LabHostShell(next(host["container"] for host in listed if host["name"] == HOST))
    shell.run(PURGE)
    yield shell
    provisioned.ok("provision", "--host", HOST)


@pytest.fixture(scope="module")
def company(
    provisioned: Rigup, bare: LabHostShell, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("company")
    vendor = urlsplit(provisioned.inventory()["hosts"][HOST]["mirrors"]["nvidia"]["uri"])
    assert vendor.hostname is not None
    words = (str(PROXY), vendor.hostname, str(directory), f"{VENDOR}={vendor.netloc}")
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    bare.run(CUT_OFF.format(address=vendor.hostname, port=port))
    try:
        yield Company(provisioned, bare, directory, vendor.hostname, port)
    finally:
        bare.run("iptables -F OUTPUT")
        process.kill()
        process.wait()
        process.stdout.close()


def blocked(done: Done, *words: str) -> None:
    assert done.code == 3, done.said
    for word in words:
        assert word in done.said, done.said


@pytest.mark.parametrize(
    ("mount", "option", "words"),
    [
        ("/boot", "size=10m", "/boot holds 10 MiB free, 192 MiB are needed (the new initramfs)"),
        ("/var/cache", "size=40m", "/var/cache holds 40 MiB free"),
        ("/boot", "ro", "/boot is mounted read-only"),
    ],
)
def test_a_full_disk_is_named_with_its_need(
    provisioned: Rigup, bare: LabHostShell, mount: str, option: str, words: str
) -> None:
    bare.run(f"mount -t tmpfs -o {option} tmpfs {mount}")
    before = bare.run("dpkg -l | sha256sum")
    try:
        blocked(provisioned("provision", "--host", HOST), "preflight", words)
        assert bare.run("dpkg -l | sha256sum") == before
    finally:
        bare.run(f"umount {mount}")


def test_no_way_out_is_told_before_any_package(company: Company) -> None:
    before = company.packages()
    blocked(
        company.provision(),
        "repository addresses cannot be fetched on the host",
        f"https://{VENDOR}/key.asc",
        "/dists/trixie/InRelease",
        "mirrors.http_proxy",
    )
    assert company.packages() == before


def test_a_wrong_proxy_is_named_before_any_package(company: Company) -> None:
    before = company.shell.run("dpkg -l | sha256sum")
    blocked(
        company.provision(http_proxy=f"http://{company.address}:9"),
        f"through the proxy http://{company.address}:9",
        "repository addresses cannot be fetched",
    )
    assert company.shell.run("dpkg -l | sha256sum") == before


def test_a_proxy_that_signs_tls_again_is_not_believed_by_itself(company: Company) -> None:
    blocked(company.provision(http_proxy=company.proxy), VENDOR, "certificate", "ca_certificates")


def test_with_proxy_and_authority_the_host_ends_verified(company: Company) -> None:
    settings = {"http_proxy": company.proxy, "ca_certificates": [company.authority]}
    done = company.provision(**settings)
    assert done.code == 0, done.said
    assert "verified" in done.out
    assert f"GET https://{VENDOR}/key.asc" in company.asked()
    assert "Packages" in company.asked()
    again = company.provision(**settings)
    assert f"{HOST}: ok, 0 change(s)" in again.out, again.said
    asked = "docker info --format '{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}'"
    assert company.shell.run(asked).split() == [
        *(company.proxy, company.proxy, "localhost,127.0.0.1,::1")
    ]
    fetch = f"bash -lc 'curl -sS --max-time 20 https://{VENDOR}/key.asc'"
    assert "BEGIN PGP" in company.shell.run(fetch)


def test_a_wrong_proxy_does_not_reach_a_host_that_works(company: Company) -> None:
    drop_in = "/etc/systemd/system/docker.service.d/rigup-proxy.conf"
    look = f"cat /etc/apt/apt.conf.d/90rigup-proxy {drop_in}; systemctl show -p MainPID docker"
    before, wrong = company.shell.run(look), f"http://{company.address}:9"
    blocked(
        company.provision(http_proxy=wrong, ca_certificates=[company.authority]),
        f"through the proxy {wrong}",
        "no setting was changed",
    )
    assert company.shell.run(look) == before


def test_what_leaves_the_inventory_leaves_the_host(company: Company) -> None:
    company.shell.run("iptables -F OUTPUT")
    done = company.rigup("provision", "--host", HOST)
    assert done.code == 0, done.said
    left = "ls /etc/apt/apt.conf.d/90rigup-* /usr/local/share/ca-certificates/rigup-* 2>/dev/null"
    assert company.shell.run(left, check=False) == ""
    assert company.shell.run("docker info --format '{{.HTTPProxy}}'").strip() == ""
    assert f"{HOST}: ok, 0 change(s)" in company.rigup.ok("provision", "--host", HOST).out
