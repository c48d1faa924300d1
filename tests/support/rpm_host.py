"""A container with the real dnf, zypper and rpm, whose os-release says what a test wants.

The distribution, its repositories and every package in them are SIMULATED; the package managers,
their databases, keys, locks and module streams are not.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from inventory import Host
from inventory.model import Mirrors, Repository
from provisioner.actions import Action
from provisioner.command import Command
from provisioner.facts import OS, PACKAGES, SOURCES, Facts, gather
from provisioner.facts.packages import PackageFacts
from provisioner.lab.docker import Docker
from provisioner.lab.images import build, local_base, silent
from provisioner.lab.recipe import Recipe
from provisioner.platforms import Platform, platform_of
from provisioner.transport.local import LocalTransport

FILES = Path(__file__).parent / "rpm"
MAY_UNSHARE = (
    *("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"),
    *("--security-opt", "apparmor=unconfined"),
)
"""rpm runs scriptlets in namespaces of their own."""
SERVER = "http://127.0.0.1:8000"
DISTRIBUTION = f"""\
[distribution]
name=SIMULATED distribution
baseurl={SERVER}/distribution
enabled=1
gpgcheck=1
gpgkey={SERVER}/distribution.asc
"""
PREPARE = """\
set -eu
rm -f /etc/os-release
printf %s "$1" > /etc/os-release
mkdir -p "$2"
printf %s "$3" > "$2/distribution.repo"
curl -fsS "$4/distribution.asc" --retry 20 --retry-connrefused --retry-delay 1 > /tmp/key
rpm --import /tmp/key
"""


class RpmHost(LocalTransport):
    """Runs every command as root in the container."""

    def __init__(self, container: str) -> None:
        super().__init__("gpu01")
        self.container = container

    def facts(self) -> Facts:
        return gather(self, (OS, PACKAGES, SOURCES))

    @property
    def packages(self) -> PackageFacts:
        return self.facts()[PACKAGES]

    @property
    def platform(self) -> Platform:
        return platform_of(self.facts()[OS])

    def inventory(self, **repositories: str) -> Host:
        """The host as an inventory with mirrors has it: ``nvidia="nvidia-streams"``."""
        pinned = self.sh("cat /srv/www/vendor.fingerprint").strip()
        mirrors = {
            name: Repository(f"{SERVER}/{path}/", f"{SERVER}/vendor.asc", pinned)
            for name, path in repositories.items()
        }
        wanted = Host("gpu01", "gpu01", docker_source="vendor", driver_source="vendor")
        return replace(wanted, mirrors=Mirrors(**mirrors))

    def apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            action.apply(self)

    def sh(self, script: str, *arguments: str) -> str:
        """What a script printed; it must succeed."""
        result = self.run(Command.sh(script, *arguments, timeout_s=300))
        assert result.ok, result.describe_failure()
        return result.text

    def _line(self, command: Command) -> str:
        return shlex.join(["docker", "exec", "-i", self.container, *command.words])


@contextmanager
def rpm_host(os_release: str) -> Iterator[RpmHost]:
    """A fresh host of that os-release."""
    docker = Docker()
    container = docker.run("run", "--detach", "--init", *MAY_UNSHARE, _image(docker))
    try:
        target = RpmHost(container)
        folder = "/etc/zypp/repos.d" if "suse" in os_release else "/etc/yum.repos.d"
        target.sh(PREPARE, os_release, folder, DISTRIBUTION, SERVER)
        yield target
    finally:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False
        )


def _image(docker: Docker) -> str:
    files = {f"rpm/{path.name}": path.read_bytes() for path in sorted(FILES.iterdir())}
    dockerfile = files.pop("rpm/Dockerfile").decode()
    files["Dockerfile"] = f"FROM {local_base('debian13')}\n{dockerfile}".encode()
    return build(docker, Recipe("rigup-lab/rpm", files), silent)
