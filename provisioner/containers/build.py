"""Building the SSH-enabled image: on a host from a PyTorch image, or here for practice hosts.

The image's name carries the hash of everything it is made from, so nothing is built twice.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from threading import Lock

from inventory import Mirrors
from provisioner.authorities import read_authorities
from provisioner.command import Command
from provisioner.containers.shipping import Progress, image_id, image_label, silent
from provisioner.errors import CommandFailed, LabError
from provisioner.lab.images import known_base, local_base
from provisioner.lab.recipe import Recipe
from provisioner.mirrors import pip_conf, pip_settings
from provisioner.transport.base import Transport
from provisioner.transport.local import LocalTransport

SSH_LABEL = "rigup.ssh"
STAGE_LABEL = "rigup.stage=packages"
PACKAGED = ("Dockerfile", "install.sh", "entrypoint.sh")
BUILD_TIMEOUT_S = 3600.0

PRACTICE_DISTRO, PRACTICE_PYTHON = "debian12", "3.11"
PRACTICE_TORCH = "torch==2.13.0"
PRACTICE_NOTE = "CPU build of PyTorch, for practice"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds; PyPI's Linux wheels bring gigabytes of CUDA."""
_ONE_QUESTION = Lock()


@dataclass(frozen=True)
class BuildInputs:
    """What a build depends on besides the packaged files.

    authorities: file name (``*.crt``) to bytes; pip: keys of its configuration, none for PyPI;
    proxy: for HTTP and HTTPS during the build only.
    """

    base: str
    repository: str = "rigup/pytorch"
    torch: str = ""
    note: str = ""
    authorities: Mapping[str, bytes] = field(default_factory=dict)
    pip: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None


def inputs_for(base: str, mirrors: Mirrors) -> BuildInputs:
    """A build on ``base`` behind a host's mirrors; raises UsageError for an unreadable CA file."""
    return BuildInputs(
        base,
        authorities=read_authorities(mirrors.ca_certificates),
        pip=pip_settings(mirrors),
        proxy=mirrors.http_proxy,
    )


def recipe(inputs: BuildInputs) -> Recipe:
    """The build context without wheels, and the name of the image made from it."""
    package = resources.files("provisioner.containers")
    files = {name: package.joinpath(name).read_bytes() for name in PACKAGED}
    files |= {f"ca/{name}": data for name, data in inputs.authorities.items()}
    files |= {"ca/.keep": b"", "wheels/.keep": b"", "pip.conf": pip_conf(inputs.pip).encode()}
    made_from = [inputs.base, inputs.torch, inputs.note]
    files["made-from.json"] = json.dumps(made_from).encode()
    return Recipe(inputs.repository, files)


def build_on(transport: Transport, inputs: BuildInputs, progress: Progress = silent) -> str:
    """Build on the host, which has the base image already; the new image's reference."""
    wanted = recipe(inputs)
    if image_id(transport, wanted.reference) is not None:
        return wanted.reference
    progress(f"{transport.host_name}: building {wanted.reference} on {inputs.base}")
    words = build_words(wanted.reference, inputs, "-")
    _build(
        transport, Command.of(*words, stdin=wanted.context(), timeout_s=BUILD_TIMEOUT_S), progress
    )
    return wanted.reference


def with_ssh(
    transport: Transport, reference: str, mirrors: Mirrors, progress: Progress = silent
) -> str:
    """``reference`` itself if it was made for SSH, else an image built from it on the host."""
    if image_label(transport, reference, SSH_LABEL):
        return reference
    return build_on(transport, inputs_for(reference, mirrors), progress)


def build_local_image(progress: Progress = silent) -> str:
    """The practice image (CPU build of PyTorch) in this machine's Docker; its reference.

    Takes minutes the first time and nothing afterwards. Raises LabError with a remedy.
    """
    inputs = _practice_inputs(local_base(PRACTICE_DISTRO, progress))
    wanted = recipe(inputs)
    local = LocalTransport()
    if image_id(local, wanted.reference) is not None:
        return wanted.reference
    with tempfile.TemporaryDirectory(prefix="rigup-image-") as name:
        folder = Path(name)
        _write_files(folder, wanted.files)
        progress(f"fetching the CPU build of {PRACTICE_TORCH}")
        _download_torch(folder / "wheels")
        progress(f"building {wanted.reference} on {inputs.base}")
        words = build_words(wanted.reference, inputs, name)
        _build(local, Command.of(*words, timeout_s=BUILD_TIMEOUT_S), progress)
    return wanted.reference


def practice_reference() -> str | None:
    """The name that the practice image has when it is built on this machine; builds nothing.

    None where its base has never been built here, or there is no Docker. Asked once a process.
    """
    with _ONE_QUESTION:
        return _practice_reference()


def build_arguments(inputs: BuildInputs) -> dict[str, str]:
    """``--build-arg``; proxies are among Docker's predefined arguments, in no layer."""
    arguments = {"BASE_IMAGE": inputs.base, "TORCH": inputs.torch, "NOTE": inputs.note}
    if inputs.proxy:
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        arguments |= dict.fromkeys(names, inputs.proxy)
    return arguments


def build_words(reference: str, inputs: BuildInputs, context: str) -> list[str]:
    """The ``docker build`` of ``context``: a folder, or ``-`` for an archive on standard input."""
    words = ["docker", "build", "--force-rm", "--tag", reference]
    for name, value in build_arguments(inputs).items():
        words += ["--build-arg", f"{name}={value}"]
    return [*words, context]


@lru_cache(maxsize=1)
def _practice_reference() -> str | None:
    base = known_base(PRACTICE_DISTRO)
    return recipe(_practice_inputs(base)).reference if base else None


def _practice_inputs(base: str) -> BuildInputs:
    return BuildInputs(
        base,
        repository="rigup/pytorch-cpu",
        torch=PRACTICE_TORCH,
        note=PRACTICE_NOTE,
        pip=pip_settings(Mirrors(python_index=os.environ.get("PIP_INDEX_URL"))),
    )


def _build(transport: Transport, command: Command, progress: Progress) -> None:
    result = transport.run(command, on_output=_StepLines(transport.host_name, progress))
    # The stage that held the wheels is of no further use.
    prune = ("docker", "image", "prune", "--force", "--filter", f"label={STAGE_LABEL}")
    transport.run(Command.of(*prune))
    if not result.ok:
        raise CommandFailed(
            result,
            host=transport.host_name,
            remedy="where the network re-signs TLS or has its own package index, set "
            "mirrors.ca_certificates and mirrors.python_index in the inventory",
        )


class _StepLines:
    """Passes on the lines of a build's output that say which step it is at."""

    def __init__(self, host: str, progress: Progress) -> None:
        self._host, self._progress, self._partial = host, progress, b""

    def __call__(self, chunk: bytes) -> None:
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"Step ") or (line.startswith(b"#") and b" [" in line):
                self._progress(f"{self._host}: {line.decode('utf-8', 'replace').strip()}")


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _download_torch(folder: Path) -> None:
    """From pip's own configuration (a wheelhouse, say), else from PyTorch's index."""
    failures = []
    for where in (["--no-index"], ["--index-url", CPU_WHEELS]):
        done = subprocess.run(
            _download_words(folder, where), capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        failures.append(done.stderr.strip().splitlines()[-1:])
    raise LabError(
        f"the CPU build of {PRACTICE_TORCH} cannot be downloaded: {failures}",
        remedy=f"make {CPU_WHEELS} reachable, or put the wheel into a folder and name it in "
        "PIP_FIND_LINKS",
    )


def _download_words(folder: Path, where: Iterable[str]) -> list[str]:
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *where]
    words += ["--dest", str(folder), "--only-binary", ":all:", "--python-version", PRACTICE_PYTHON]
    words += ["--platform", f"manylinux_2_28_{platform.machine()}"]
    return [*words, PRACTICE_TORCH]
