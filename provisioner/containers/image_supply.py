"""The image of a job: which one, and how it gets onto the host.

::

    the host has it                              nothing to do
    the host can pull it, or what it is made of  the host pulls and builds alone
    this machine's Docker has it                 it is sent from here
    neither                                      refused, with both reasons

Nothing moves before the host's disk was found large enough.
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from inventory import Host
from provisioner.containers.build import (
    PRACTICE_NOTE,
    build_arguments,
    build_local_image,
    inputs_for,
    practice_reference,
    recipe,
)
from provisioner.containers.docker_look import DockerLook, look_script, parse_look
from provisioner.containers.registry import PullAnswer, architecture_of, ask_registry
from provisioner.containers.resolver import resolve_image
from provisioner.containers.shipping import (
    IN_NO_REGISTRY,
    Progress,
    image_id,
    kept_as,
    local_architecture,
    local_size,
    not_to_be_had,
    not_to_be_sent,
    pulled_as,
    silent,
)
from provisioner.errors import BlockedError, RigupError
from provisioner.preflight.space import shown
from provisioner.transport.base import Transport
from remote_agent.protocol.job import ImagePlan, is_made_by_rigup

if TYPE_CHECKING:
    from provisioner.containers.facade import HostGpus

__all__ = [
    "DockerLook",
    "Supply",
    "WantedImage",
    "look_script",
    "parse_look",
    "plan_supply",
    "practice_reason",
    "practice_reference",
    "wanted_image",
]

UNPACKED = 3
"""Times the compressed size that a pulled image takes: PyTorch's images unpack to about twice
their size, and the compressed layers lie there at the same time."""
LOADED = 1.1
BUILD_BYTES = 3 << 30
"""What the SSH image adds to its base, with the builder's intermediate layers."""


_ALONE = "this machine is not needed for that"


@dataclass(frozen=True)
class WantedImage:
    """reference: what ``docker run`` uses; "" for a practice image whose name is known only once it
    is built. base: the image it is built on, "" where it is not built on the host. why: one line
    for people. practice: it is in no registry and is made on this machine."""

    reference: str
    base: str
    why: str
    practice: bool = False


@dataclass(frozen=True)
class Supply:
    """image: what ``docker run`` uses. plan: None where the host has it. context: the content of
    the blob ``plan.build``. sends: the image that this machine has to send. size: bytes that are
    pulled or sent, about; 0 where that is not known. said: lines that tell what will happen."""

    image: str
    plan: ImagePlan | None = None
    context: bytes | None = field(default=None, repr=False)
    sends: str | None = None
    size: int = 0
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Build:
    """The SSH image as the host builds it on its base."""

    context: bytes = field(repr=False)
    arguments: dict[str, str] = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.context).hexdigest()


def wanted_image(host: Host, gpus: HostGpus, running: Sequence[str] = ()) -> WantedImage:
    """The inventory's image, as it is; else that of the user's running container; else the practice
    image without a usable GPU; else the newest that fits. Builds and asks nothing on the host.

    Raises BlockedError where no image fits the GPUs.
    """
    if host.container.image:
        image = kept_as(host.container.image, host.mirrors.container_registry)
        return WantedImage(image, "", "container.image of the inventory")
    if running:
        return WantedImage(running[0], "", "the image of your running container")
    if not gpus.usable:
        why = f"{practice_reason(gpus)}: the practice image ({PRACTICE_NOTE})"
        return WantedImage(practice_reference() or "", "", why, practice=True)
    choice = resolve_image(gpus.driver_version, gpus.compute_capabilities)
    reference = recipe(inputs_for(choice.image, host.mirrors)).reference
    return WantedImage(reference, choice.image, choice.reason)


def practice_reason(gpus: HostGpus) -> str:
    """Why a host gets the practice image."""
    return "its GPUs are SIMULATED" if gpus.simulated else "it has no GPU"


def plan_supply(
    host: Host,
    transport: Transport,
    wanted: WantedImage,
    look: DockerLook,
    *,
    progress: Progress = silent,
    dry_run: bool = False,
) -> Supply:
    """Decide how the host gets the image; moves nothing. A practice image that is missing here is
    built here first, in minutes, unless ``dry_run``.

    Raises BlockedError (no Docker there), RigupError (the disk is too small, or neither the host
    nor this machine can provide the image), UsageError for an unreadable CA file.
    """
    if not look.usable:
        raise BlockedError(
            look.problem, host=host.name, remedy=f"invoke provision --host {host.name}"
        )
    if wanted.reference and look.has(wanted.reference):
        return _present(host, wanted.reference)
    if wanted.practice:
        return _practice(host, transport, wanted, look, progress, dry_run=dry_run)
    build = _build_of(host, wanted) if wanted.base else None
    base = wanted.base or wanted.reference
    source = pulled_as(base, host.mirrors.container_registry)
    if build and look.has(base):
        _require_space(host, look, wanted.reference, BUILD_BYTES)
        said = f"{host.name} builds {wanted.reference} on {base}, which it has; {_ALONE}"
        plan = _plan(build, base=base, pull=source, size=BUILD_BYTES)
        return Supply(wanted.reference, plan, build.context, said=(said,))
    if is_made_by_rigup(base):
        answer = PullAnswer(False, reason=IN_NO_REGISTRY)
    else:
        progress(f"{host.name}: asking whether it can pull {source}")
        answer = ask_registry(transport, source, host.mirrors.http_proxy)
    if answer.can_pull:
        return _pulled(host, wanted, look, build, source, answer.size)
    here = _here(look, wanted)
    if here.sends:
        supply = _sent(host, look, wanted.reference, here.sends, build)
        why = f"{host.name} cannot pull {base}: {answer.reason}"
        return replace(supply, said=(why, *supply.said))
    if answer.can_pull is None:
        return _pulled(host, wanted, look, build, source, None)
    raise not_to_be_had(host.name, base, "\n".join((answer.reason, *here.unfit)))


def _present(host: Host, reference: str) -> Supply:
    return Supply(reference, said=(f"{host.name} has {reference}",))


def _practice(
    host: Host,
    transport: Transport,
    wanted: WantedImage,
    look: DockerLook,
    progress: Progress,
    *,
    dry_run: bool,
) -> Supply:
    here = local_size(wanted.reference) if wanted.reference else None
    if here is None and dry_run:
        said = f"the practice image is built here, which takes minutes, and sent to {host.name}"
        return Supply(wanted.reference, said=(said,))
    image = wanted.reference if here is not None else build_local_image(progress)
    if image != wanted.reference and image_id(transport, image) is not None:
        return _present(host, image)
    if problem := _other_machine(look, image):
        raise RigupError(problem, host=host.name, remedy="set container.image in the inventory")
    return _sent(host, look, image, image, None)


def _pulled(
    host: Host,
    wanted: WantedImage,
    look: DockerLook,
    build: _Build | None,
    source: str,
    size: int | None,
) -> Supply:
    """The host pulls, and builds where need be; ``size``: compressed."""
    needed = (size or 0) * UNPACKED + (BUILD_BYTES if build else 0)
    _require_space(host, look, wanted.reference, needed)
    how_large = f"{shown(size)}, {shown(size * UNPACKED)} unpacked" if size else "size not known"
    then = f" and builds {wanted.reference} on it" if build else ""
    said = f"{host.name} pulls {source} ({how_large}){then}; {_ALONE}"
    plan = _plan(build, base=wanted.base, pull=source, size=needed if size else 0)
    return Supply(
        wanted.reference, plan, build.context if build else None, size=size or 0, said=(said,)
    )


@dataclass(frozen=True)
class _Here:
    """sends: the image, else its base, of this machine's Docker; None where it has neither for the
    host. unfit: why others that it has cannot be sent."""

    sends: str | None
    unfit: tuple[str, ...] = ()


def _here(look: DockerLook, wanted: WantedImage) -> _Here:
    unfit = []
    for reference in filter(None, (wanted.reference, wanted.base)):
        if local_size(reference) is None:
            continue
        problem = not_to_be_sent(reference) or _other_machine(look, reference)
        if not problem:
            return _Here(reference)
        unfit.append(problem)
    return _Here(None, tuple(unfit))


def _other_machine(look: DockerLook, reference: str) -> str:
    """Why an image of this machine does not run on the host; "" where it does, or nobody knows."""
    has, needs = local_architecture(reference), architecture_of(look.machine)
    if not has or not needs or has == needs:
        return ""
    return f"{reference} of this machine is for {has}, and the host needs one for linux/{needs}"


def _sent(host: Host, look: DockerLook, image: str, sends: str, build: _Build | None) -> Supply:
    size = local_size(sends)
    if size is None:
        raise RigupError(f"this machine's Docker has no image {sends}")
    build = build if sends != image else None
    needed = int(size * LOADED) + (BUILD_BYTES if build else 0)
    _require_space(host, look, image, needed)
    said = [
        f"{sends} ({shown(size)}) is sent from here to {host.name}; keep this machine connected "
        "until the job id is printed"
    ]
    if build:
        said.append(f"{host.name} then builds {image} on it; {_ALONE}")
    sender = f"{getpass.getuser()}@{os.uname().nodename}"
    plan = _plan(build, base=sends if build else "", sender=sender, size=size)
    return Supply(image, plan, build.context if build else None, sends, size, tuple(said))


def _build_of(host: Host, wanted: WantedImage) -> _Build:
    inputs = inputs_for(wanted.base, host.mirrors)
    return _Build(recipe(inputs).context(), build_arguments(inputs))


def _plan(
    build: _Build | None, *, base: str, size: int, pull: str | None = None, sender: str = ""
) -> ImagePlan:
    return ImagePlan(
        base=base,
        pull=pull,
        sender=sender,
        build=build.digest if build else None,
        build_args=build.arguments if build else {},
        size=size,
    )


def _require_space(host: Host, look: DockerLook, image: str, needed: int) -> None:
    """Raises RigupError; where nobody knows how much is free, the host finds out."""
    if look.free_bytes is None or look.free_bytes >= needed:
        return
    raise RigupError(
        f"{shown(look.free_bytes)} are free where Docker keeps images ({look.root}), and {image} "
        f"needs about {shown(needed)}",
        host=host.name,
        remedy="`docker system prune` on the host removes what no container uses; or move Docker's "
        "data-root to a larger disk",
    )
