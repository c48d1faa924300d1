"""Images of plain Debian, made locally where no registry is reachable.

::

    registry (docker pull debian:12)  ─┐
                                       ├─▶ root ─▶ base: mirror, authorities   (local_base)
    debootstrap + docker import       ─┘            └─▶ host: systemd, sshd    (host_image)

Each is named by its recipe's hash, so an unchanged recipe is never built twice.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.distros import DEFAULT_DISTRO, Distro, find_distro
from provisioner.lab.docker import Docker
from provisioner.lab.machine import Machine, read_machine
from provisioner.lab.recipe import IMAGE_LABEL, Recipe, base_recipe, host_recipe, root_recipe

Progress = Callable[[str], None]

PULL_TIMEOUT_S = 60.0
BUILD_TIMEOUT_S = 1800.0
WORK_DIR = Path("/var/tmp")  # noqa: S108 (debootstrap needs a place without noexec and nodev)
WORK_PREFIX = "rigup-lab-root-"
BOOTSTRAP = ("unshare", "--mount", "--propagation", "private")


def silent(_: str) -> None:
    """A progress callback for callers who want none."""


KNOWN_TIMEOUT_S = 5.0
"""Somebody waits for a host, for which this machine's Docker is only one way to an image."""


def local_base(distro: str = DEFAULT_DISTRO, progress: Progress = silent) -> str:
    """The reference of a local image of plain Debian without systemd, building it if need be.

    It has this machine's apt mirror and trusts its extra certificate authorities. Needs the
    local Docker engine; without a reachable registry also root and ``debootstrap``. Safe to call
    from several processes at once. Raises LabError with a remedy, UsageError for an unknown name.
    """
    chosen = find_distro(distro)
    docker = Docker()
    docker.require()
    machine = read_machine()
    root = _root_image(docker, chosen, machine, progress)
    return build(docker, base_recipe(chosen, machine, root), progress)


def known_base(distro: str = DEFAULT_DISTRO) -> str | None:
    """The reference that :func:`local_base` would return, without building or pulling anything.

    None where that is not known before its first build, or where Docker does not answer here.
    """
    chosen = find_distro(distro)
    try:
        machine = read_machine()
        root = _known_root(Docker(question_timeout_s=KNOWN_TIMEOUT_S), chosen, machine)
    except LabError:
        return None
    return base_recipe(chosen, machine, root).reference if root else None


def host_image(distro: Distro, progress: Progress = silent) -> str:
    """The reference of the image that practice hosts of that distro run; as :func:`local_base`."""
    base = local_base(distro.name, progress)
    return build(Docker(), host_recipe(distro, base), progress)


def build(docker: Docker, recipe: Recipe, progress: Progress) -> str:
    """The recipe's image reference; builds it only where it does not exist yet."""
    if docker.image_exists(recipe.reference):
        return recipe.reference
    with _one_builder(recipe.repository):
        if not docker.image_exists(recipe.reference):
            progress(f"building image {recipe.reference}")
            docker.run(
                *("build", "--quiet", "--force-rm", "--tag", recipe.reference, "-"),
                stdin=recipe.context(),
                timeout_s=BUILD_TIMEOUT_S,
            )
    return recipe.reference


def remove_images(docker: Docker) -> int:
    """Remove the images that this package built and nothing uses; the number removed."""
    removed = 0
    while True:  # a parent goes only after its children
        listed = docker.run("images", "--quiet", "--no-trunc", "--filter", f"label={IMAGE_LABEL}")
        attempts = [
            docker.attempt("rmi", "--force", image) for image in sorted(set(listed.split()))
        ]
        succeeded = sum(done.returncode == 0 for done in attempts)
        removed += succeeded
        if succeeded == 0:
            return removed


def _root_image(docker: Docker, distro: Distro, machine: Machine, progress: Progress) -> str:
    made = _bootstrapped(distro, machine)
    with _one_builder(f"root-{distro.name}"):
        known = _known_root(docker, distro, machine)
        if known is not None:
            return known
        progress(f"{distro.name}: asking the registry for {distro.registry_image}")
        if _pull(docker, distro.registry_image):
            return distro.registry_image
        progress(f"{distro.name}: no registry; bootstrapping it from {machine.archive}")
        _debootstrap(docker, distro, machine, made)
        return made


def _known_root(docker: Docker, distro: Distro, machine: Machine) -> str | None:
    """The root image that is in Docker; None where there is none yet."""
    references = (_bootstrapped(distro, machine), distro.registry_image)
    return next((one for one in references if docker.image_exists(one)), None)


def _bootstrapped(distro: Distro, machine: Machine) -> str:
    return root_recipe(distro, machine, "debootstrap minbase").reference


def _pull(docker: Docker, reference: str) -> bool:
    try:
        done = docker.attempt("pull", "--quiet", reference, timeout_s=PULL_TIMEOUT_S)
    except LabError:
        return False
    return done.returncode == 0


def _debootstrap(docker: Docker, distro: Distro, machine: Machine, reference: str) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise LabError(
            f"no registry offers {distro.registry_image}, and it cannot be made here",
            remedy="make a container registry reachable, or run as root with debootstrap installed "
            "(apt-get install debootstrap)",
        )
    prefix = f"{WORK_PREFIX}{distro.name}-"
    _remove_stale_roots(prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=WORK_DIR))
    try:
        _fill(folder, distro, machine)
        _import(docker, folder, reference)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, distro: Distro, machine: Machine) -> None:
    # In a mount namespace of its own, so that a kill leaves no /proc mounted in the folder.
    words = [*BOOTSTRAP, "debootstrap", "--variant=minbase", "--include=ca-certificates"]
    words += [distro.codename, str(folder), machine.archive]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-8:])
        raise LabError(
            f"debootstrap of {distro.codename} failed\n{tail}{done.stderr[-500:]}",
            remedy=f"is {machine.archive} reachable? (it comes from this machine's apt sources)",
        )


def _import(docker: Docker, folder: Path, reference: str) -> None:
    words = ["tar", "-C", str(folder), "--exclude=./var/cache/apt/archives/*.deb", "-c", "."]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as tar:
        done = subprocess.run(
            [docker.program, "import", "--change", f"LABEL {IMAGE_LABEL}=root", "-", reference],
            stdin=tar.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0 or tar.returncode != 0:
        raise LabError(f"docker import of {reference} failed: {done.stderr.strip()}")


def _remove_stale_roots(prefix: str) -> None:
    for leftover in WORK_DIR.glob(f"{prefix}*"):
        if leftover.is_dir() and not leftover.is_symlink() and leftover.stat().st_uid == 0:
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _one_builder(name: str) -> Iterator[None]:
    """Hold this user's machine-wide lock of that name, so that nothing is built twice at once."""
    lock = f"rigup-lab-{os.geteuid()}-{name.replace('/', '-')}.lock"
    handle = os.open(WORK_DIR / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
