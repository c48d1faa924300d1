"""Build recipes: the files an image is made from, and the hash that names the image."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from provisioner.lab.distros import Distro
from provisioner.lab.machine import Machine

HASH_LENGTH = 12
IMAGE_LABEL = "rigup.lab.image"

BASE_DOCKERFILE = """\
FROM {parent}
LABEL {label}=base
COPY rigup-base/ /
RUN rm -f /etc/apt/sources.list /etc/apt/apt.conf.d/docker-clean \\
 && apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates \\
 && DEBIAN_FRONTEND=noninteractive apt-get upgrade -y \\
 && update-ca-certificates \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
"""

SOURCES = """\
Types: deb
URIs: {archive}
Suites: {suite} {suite}-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: {security}
Suites: {suite}-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

PIP_CONF = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"


@dataclass(frozen=True)
class Recipe:
    """An image's whole input. ``files`` maps a path in the build context to its bytes."""

    repository: str
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Changes whenever any input changes, and only then."""
        state = hashlib.sha256(self.repository.encode())
        for path in sorted(self.files):
            state.update(f"\0{path}\0{len(self.files[path])}\0".encode())
            state.update(self.files[path])
        return state.hexdigest()[:HASH_LENGTH]

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.digest}"

    def context(self) -> bytes:
        """The build context as a tar archive for ``docker build -``."""
        return tar_of(self.files)


def root_recipe(distro: Distro, machine: Machine, builder: str) -> Recipe:
    """The bare system as ``builder`` (a script or a registry reference) makes it."""
    made_from = {"builder": builder.encode(), "archive": machine.archive.encode()}
    return Recipe(f"rigup-lab/root-{distro.name}", made_from)


def base_recipe(distro: Distro, machine: Machine, parent: str) -> Recipe:
    """Plain Debian with this machine's mirror and authorities; no systemd."""
    files = {f"rigup-base/{path}": data for path, data in inherited_files(distro, machine).items()}
    files["Dockerfile"] = BASE_DOCKERFILE.format(parent=parent, label=IMAGE_LABEL).encode()
    return Recipe(f"rigup-lab/base-{distro.name}", files)


def host_recipe(distro: Distro, base: str) -> Recipe:
    """A systemd host with sshd and nothing of Docker's or NVIDIA's installed."""
    files = {f"host/{path}": data for path, data in packaged_files("host").items()}
    dockerfile = files.pop("host/Dockerfile").decode()
    files["Dockerfile"] = f"FROM {base}\n{dockerfile}".encode()
    return Recipe(f"rigup-lab/host-{distro.name}", files)


def inherited_files(distro: Distro, machine: Machine) -> dict[str, bytes]:
    """Files, by path without the leading slash, through which a system knows this network."""
    sources = SOURCES.format(
        archive=machine.archive, security=machine.security, suite=distro.codename
    )
    options = "".join(f'{key} "{value}";\n' for key, value in sorted(machine.apt_options.items()))
    files = {
        "etc/apt/sources.list.d/debian.sources": sources.encode(),
        "etc/apt/apt.conf.d/99rigup-lab": options.encode(),
        "etc/pip.conf": PIP_CONF.encode(),
    }
    for name, data in machine.authorities.items():
        files[f"usr/local/share/ca-certificates/{name}"] = data
    return files


def packaged_files(folder: str) -> dict[str, bytes]:
    """Every file under ``provisioner/lab/files/<folder>``, by its path below that folder."""
    found: dict[str, bytes] = {}
    pending = [(resources.files("provisioner.lab").joinpath("files").joinpath(folder), "")]
    while pending:
        directory, prefix = pending.pop()
        for entry in directory.iterdir():
            if entry.is_dir():
                pending.append((entry, f"{prefix}{entry.name}/"))
            elif not entry.name.endswith(".pyc"):
                found[prefix + entry.name] = entry.read_bytes()
    return found


def tar_of(files: Mapping[str, bytes], *, modes: Mapping[str, int] | None = None) -> bytes:
    """A tar archive owned by root with fixed times; a ``#!`` makes a file executable."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(files[path])
            entry.mode = 0o755 if files[path].startswith(b"#!") else 0o644
            entry.mode = (modes or {}).get(path, entry.mode)
            archive.addfile(entry, io.BytesIO(files[path]))
    return stream.getvalue()
