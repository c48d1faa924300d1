"""What Docker on a host can do for a job: one script's answer, read with suspicion."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from provisioner.containers.engine import images_of
from provisioner.containers.registry import MACHINE
from provisioner.text import one_line

MARK = "docker|"
MAX_IMAGES = 20_000
MAX_REFERENCE = 512
REASON_LENGTH = 300
NOT_INSTALLED = "Docker is not installed"
NONE = "<none>"
"""What Docker writes for an image without a name, a tag or a digest."""

_ID = re.compile(r"sha256:[0-9a-f]{64}")
_SHORT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*")
_FREE_KIB = re.compile(r"[0-9]{1,15}")
_DEFAULT_REGISTRY = re.compile(r"(?:(?:index\.)?docker\.io/)?(?:library/)?")


@dataclass(frozen=True)
class DockerLook:
    """What one look at a host's Docker showed.

    usable: the login user can talk to it; ``problem`` says why not. images: all that are there, as
    Docker names them, and of the references asked for those that are there. free_bytes: on the
    file system of ``root``, where Docker keeps images; None where that is not known. running:
    images of the login user's own running SSH containers. machine: what ``uname -m`` printed.
    """

    usable: bool
    problem: str = ""
    images: frozenset[str] = frozenset()
    free_bytes: int | None = None
    running: tuple[str, ...] = ()
    root: str = ""
    machine: str = ""

    def has(self, reference: str) -> bool:
        """Whether the image is there, however its name is written."""
        return reference in self.images or plain_reference(reference) in self.images


def look_script() -> str:
    """A part of a POSIX shell script for a host.

    Its lines begin with ``docker|``. It changes nothing, ends nothing, and takes at most a minute.
    """
    return resources.files("provisioner.containers").joinpath("look_docker.sh").read_text("utf-8")


def parse_look(text: str, references: Iterable[str] = ()) -> DockerLook:
    """What :func:`look_script` printed, among other lines; lines that make no sense count for
    nothing. ``references``: images that are looked for among those."""
    lines = [line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK)]
    values: dict[str, list[str]] = {}
    for key, _, value in (line.partition("|") for line in lines):
        values.setdefault(key, []).append(value)
    if "usable" not in values:
        return DockerLook(usable=False, problem=_problem(values))
    free, root = _disk(values.get("disk", []))
    return DockerLook(
        usable=True,
        images=_images(values.get("image", []), references),
        free_bytes=free,
        running=tuple(filter(_is_reference, images_of(values.get("spec", [])))),
        root=root,
        machine=next(filter(MACHINE.fullmatch, values.get("machine", [])), ""),
    )


def plain_reference(reference: str) -> str:
    """As Docker lists it: without the default registry, and with a tag or a digest."""
    plain = _DEFAULT_REGISTRY.sub("", reference, count=1)
    if "@" in plain or ":" in plain.rpartition("/")[2]:
        return plain
    return f"{plain}:latest"


def _problem(values: dict[str, list[str]]) -> str:
    if "missing" in values:
        return NOT_INSTALLED
    refusal = " ".join(values.get("refusal", []))
    if not refusal:
        return "the host did not say whether it has Docker"
    reason = one_line(refusal, limit=REASON_LENGTH)
    if "permission denied" in refusal.lower():
        return f"the login user may not use Docker: {reason}"
    return f"Docker does not answer: {reason}"


def _images(rows: Iterable[str], asked: Iterable[str]) -> frozenset[str]:
    ids, names = set[str](), set[str]()
    for row in list(rows)[:MAX_IMAGES]:
        identity, repository, tag, digest = (row.split("|") + [NONE] * 4)[:4]
        if not _ID.fullmatch(identity):
            continue
        ids.add(identity)
        named = repository != NONE
        candidates = (f"{repository}:{tag}" * (tag != NONE), f"{repository}@{digest}")
        names.update(name for name in candidates if named and _is_reference(name))
    present = {one for one in asked if plain_reference(one) in names or _is_id_of(one, ids)}
    return frozenset(names | present)


def _is_id_of(reference: str, ids: set[str]) -> bool:
    short = _SHORT_ID.fullmatch(reference)
    return short is not None and any(one[7:].startswith(short[1]) for one in ids)


def _is_reference(text: str) -> bool:
    return len(text) <= MAX_REFERENCE and _REFERENCE.fullmatch(text) is not None


def _disk(rows: list[str]) -> tuple[int | None, str]:
    free, _, root = (rows[0] if rows else "").partition("|")
    if not _FREE_KIB.fullmatch(free):
        return None, ""
    return int(free) * 1024, one_line(root, limit=REASON_LENGTH)
