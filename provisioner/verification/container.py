"""One container on the host, and what was seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from provisioner.command import Command

TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Seen:
    """UUIDs of the GPUs that the container listed when it started and after ``reloaded``, the
    reload of systemd on the host. ``answers``: all that it printed then. ``products``: the lines of
    matrix_product.py. ``mig``: GPUs are split, and CUDA shows parts of them only."""

    before: frozenset[str]
    after: frozenset[str]
    answers: str
    reloaded: bool
    products: tuple[str, ...] = ()
    mig: bool = False


def command(*, gpus: bool, reload: bool, product: bool, sudo: bool) -> Command:
    """See prove.sh. ``product``: also multiply matrices on every GPU."""
    program, kernel = _file("matrix_product.py"), _file("matrix_product.ptx")
    switches = [str(int(switch)) for switch in (gpus, reload, product)]
    return Command.sh(
        _file("prove.sh").decode(),
        *(*switches, str(len(program))),
        sudo=sudo,
        stdin=program + kernel if product else None,
        timeout_s=TIMEOUT_S,
    )


def parse(text: str) -> Seen:
    """Whatever the container printed, in whatever shape, is only ever compared."""
    lines = text.splitlines()
    reloaded = "== reloaded" in lines
    lines = [line for line in lines if line != "== reloaded"]
    before, after, products = _until(lines, "== listed", "== listed again", "== done")
    return Seen(
        before=_uuids(before),
        after=_uuids(after),
        answers=" ".join(after),
        reloaded=reloaded,
        products=tuple(products),
        mig=any(line.lstrip().startswith("MIG ") for line in before),
    )


def _until(lines: Sequence[str], *marks: str) -> list[Sequence[str]]:
    """The lines before each mark; those that come after a mark that is missing are nobody's."""
    parts: list[Sequence[str]] = []
    for mark in marks:
        end = lines.index(mark) if mark in lines else len(lines)
        parts.append(lines[:end])
        lines = lines[end + 1 :]
    return parts


def _uuids(lines: Sequence[str]) -> frozenset[str]:
    """``GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-…)``, not the MIG devices below it."""
    return frozenset(
        line.split("UUID: ")[1].rstrip(") ")
        for line in lines
        if line.startswith("GPU ") and "UUID: " in line
    )


@cache
def _file(name: str) -> bytes:
    return resources.files(__package__ or "").joinpath(name).read_bytes()
