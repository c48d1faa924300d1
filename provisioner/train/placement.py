"""Which host a job goes to: a pure choice among what the hosts told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.errors import BlockedError, ExitCode, RigupError, TransportError, UsageError
from provisioner.text import one_line

ALL = "all"
Rank = tuple[int, ...]
"""Sorts hosts: the lowest is taken first."""
GB, GIB = 10**9, 1 << 30
MEMORY = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?) ?(g|gb|gib)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class GpuState:
    """One GPU as the choice sees it. ``free``: nobody leased it and nobody computes on it now.
    ``memory_bytes`` is None where the driver does not tell it. ``problem``: why no job can have it
    at all, "" where one can."""

    index: int
    name: str
    memory_bytes: int | None
    free: bool
    problem: str = ""


@dataclass(frozen=True)
class Candidate:
    """One host. ``error``: why it could not be asked. ``provisioned``: rigup's verification record
    is there, or what a job needs works without one. ``jobs_ahead``: queued and running jobs that
    use GPUs; ``has_queue``: some of them are queued, so a new job waits whatever is free.
    ``has_image``: nothing must be pulled, built or sent first."""

    name: str
    gpus: tuple[GpuState, ...] = ()
    provisioned: bool = True
    jobs_ahead: int = 0
    has_queue: bool = False
    has_image: bool = False
    error: RigupError | None = None


@dataclass(frozen=True)
class GpuRequest:
    """What was asked. ``count``: a number, ``all``, or None for one GPU where there are any.
    ``indices``: exactly these. ``min_memory_bytes``: of each GPU. ``type``: part of its name."""

    count: int | str | None = None
    indices: tuple[int, ...] = ()
    type: str | None = None
    min_memory_bytes: int = 0

    @property
    def needs_gpu(self) -> bool:
        return self.count != 0


@dataclass(frozen=True)
class Choice:
    """``gpus``: how many to lease; ``indices``: exactly these, () for any. ``waits``: they are not
    free now, so the job is queued."""

    name: str
    gpus: int
    waits: bool
    reason: str
    indices: tuple[int, ...] = ()


def read_gpus(text: str | None) -> tuple[int | str | None, tuple[int, ...]]:
    """``--gpus`` as (count, indices): ``2``; ``all``; ``0,2``, and ``3,`` for GPU 3 alone.

    Raises UsageError.
    """
    if text is None or text == ALL:
        return text, ()
    parts = [part.strip() for part in text.removesuffix(",").split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        raise UsageError(
            f"--gpus {text!r}: expected a number, all, or indices",
            remedy="--gpus 2 for two GPUs, --gpus 0,2 for GPU 0 and GPU 2, --gpus 3, for GPU 3",
        )
    numbers = [int(part) for part in parts]
    if "," not in text:
        return numbers[0], ()
    if len(set(numbers)) != len(numbers):
        raise UsageError(f"--gpus {text!r}: a GPU is named twice")
    return len(numbers), tuple(sorted(numbers))


def read_request(gpus: str | None, type_: str | None, min_memory: str | None) -> GpuRequest:
    """``--gpus``, ``--gpu-type`` and ``--min-gpu-memory``. Raises UsageError."""
    count, indices = read_gpus(gpus)
    asked = GpuRequest(count, indices, type_, read_memory(min_memory))
    if not asked.needs_gpu and (type_ or min_memory):
        raise UsageError("--gpus 0 asks for no GPU, and the other options for one")
    return asked


def read_memory(text: str | None) -> int:
    """``--min-gpu-memory`` in bytes: ``24``, ``24g`` and ``24GB`` as on data sheets (10^9 bytes),
    ``22GiB``. 0 for None. Raises UsageError."""
    if text is None:
        return 0
    match = MEMORY.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--min-gpu-memory {text!r}: expected gigabytes", remedy="--min-gpu-memory 24g"
        )
    unit = GIB if (match.group(2) or "").lower() == "gib" else GB
    return int(float(match.group(1)) * unit)


def choices(
    candidates: Sequence[Candidate], asked: GpuRequest, *, only: bool = False
) -> list[Choice]:
    """The hosts that can take the job, with the one first where it starts soonest.

    Hosts with enough free GPUs come first: among them one that has the image, then the one with
    most free GPUs, then the inventory's order. Where all are busy: the shortest queue. ``only``: no
    other host was asked for, so this one trains on its CPU where nobody asked for GPUs. Never
    empty: raises RigupError that names every host with the reason why it cannot take the job.
    """
    able = _able(candidates)
    try:
        ranked = _ranked(_provisioned(able), asked, only=only)
    except RigupError as error:
        error.message = "\n".join([error.message, *_reasons(candidates)])
        raise
    return [choice for _, choice in sorted(ranked, key=lambda pair: pair[0])]


def _ranked(
    able: Sequence[Candidate], asked: GpuRequest, *, only: bool
) -> list[tuple[Rank, Choice]]:
    if not asked.needs_gpu:
        return [_rank_for_cpu(*numbered) for numbered in enumerate(able)]
    fitting = _fitting(able, asked, only=only)
    return [_rank(*numbered, asked) for numbered in enumerate(fitting)]


def _reasons(candidates: Sequence[Candidate]) -> list[str]:
    return [
        f"{one.name}: {one_line(one.error.message)}" for one in candidates if one.error is not None
    ]


def _able(candidates: Sequence[Candidate]) -> list[Candidate]:
    found = [candidate for candidate in candidates if candidate.error is None]
    if found:
        return found
    errors = [candidate.error for candidate in candidates if candidate.error is not None]
    if len(errors) == 1:
        raise errors[0]
    lines = _reasons(candidates)
    unreachable = all(isinstance(error, TransportError) for error in errors)
    problem = RigupError(
        ("no host can be reached:\n" if unreachable else "no host can take the job:\n")
        + "\n".join(lines),
        remedy=next((error.remedy for error in errors if error.remedy), None),
    )
    problem.exit_code = _worst(errors)
    raise problem


def _worst(errors: Sequence[RigupError]) -> ExitCode:
    codes = {error.exit_code for error in errors}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED


def _provisioned(candidates: Sequence[Candidate]) -> list[Candidate]:
    found = [candidate for candidate in candidates if candidate.provisioned]
    if found:
        return found
    names = ", ".join(candidate.name for candidate in candidates)
    were = "was" if len(candidates) == 1 else "were"
    raise BlockedError(
        f"{names} {were} never provisioned",
        remedy=f"invoke provision --host {names.replace(' ', '')}",
    )


def _rank_for_cpu(position: int, candidate: Candidate) -> tuple[Rank, Choice]:
    image = 0 if candidate.has_image else 1
    choice = Choice(candidate.name, 0, False, "no GPU was asked for")
    return (candidate.jobs_ahead, image, position), choice


def _fitting(candidates: Sequence[Candidate], asked: GpuRequest, *, only: bool) -> list[Candidate]:
    if not any(candidate.gpus for candidate in candidates):
        if only and asked == GpuRequest():
            return list(candidates)
        names = ", ".join(candidate.name for candidate in candidates)
        raise UsageError(
            f"no GPU on {names}", remedy="--gpus 0 trains on the CPU; or choose other hosts"
        )
    found = [candidate for candidate in candidates if _suits(candidate, asked)]
    if found:
        return found
    there = "; ".join(f"{candidate.name} has {_described(candidate)}" for candidate in candidates)
    raise UsageError(f"no host has {_wanted(asked)}: {there}", remedy="ask for less, see above")


def _suits(candidate: Candidate, asked: GpuRequest) -> bool:
    suitable = _suitable(candidate, asked)
    if asked.indices:
        return {gpu.index for gpu in suitable} >= set(asked.indices)
    return len(suitable) >= max(1, _needed(candidate, asked))


def _suitable(candidate: Candidate, asked: GpuRequest) -> list[GpuState]:
    return [gpu for gpu in _matching(candidate, asked) if not gpu.problem]


def _matching(candidate: Candidate, asked: GpuRequest) -> list[GpuState]:
    return [
        gpu
        for gpu in candidate.gpus
        if (asked.type or "").lower() in gpu.name.lower()
        and (gpu.memory_bytes or 0) >= asked.min_memory_bytes
    ]


def _needed(candidate: Candidate, asked: GpuRequest) -> int:
    if asked.count == ALL:
        return len(_suitable(candidate, asked))
    return 1 if asked.count is None else int(asked.count)


def _rank(position: int, candidate: Candidate, asked: GpuRequest) -> tuple[Rank, Choice]:
    suitable, needed = _suitable(candidate, asked), _needed(candidate, asked)
    if not candidate.gpus:
        choice = Choice(candidate.name, 0, False, "it has no GPU, so this is training on its CPU")
        return (0, 0, 0, position), choice
    if asked.indices:
        suitable = [gpu for gpu in suitable if gpu.index in asked.indices]
    free = sum(gpu.free for gpu in suitable)
    if free >= needed and not candidate.has_queue:
        image = 0 if candidate.has_image else 1
        reason = f"{free} of {len(suitable)} GPUs free; {IMAGE_STATES[image]}"
        rank: Rank = (0, image, -free, position)
    else:
        reason = (
            f"no host has {needed} free; here {free} of {len(suitable)} GPUs are, and "
            f"{_ahead(candidate.jobs_ahead)}"
        )
        rank = (1, candidate.jobs_ahead, -free, position)
    all_match = len(_matching(candidate, asked)) == len(candidate.gpus)
    indices = asked.indices or (() if all_match else _exactly(suitable, needed))
    return rank, Choice(candidate.name, needed, rank[0] == 1, reason, indices)


def _exactly(suitable: Sequence[GpuState], needed: int) -> tuple[int, ...]:
    """On a host with other GPUs besides, those that suit: free ones first."""
    ranked = sorted(suitable, key=lambda gpu: (not gpu.free, gpu.index))
    return tuple(sorted(gpu.index for gpu in ranked[:needed]))


IMAGE_STATES = ("its image is there", "its image must come first")


def _ahead(jobs: int) -> str:
    return "1 job is ahead of it" if jobs == 1 else f"{jobs or 'no'} jobs are ahead of it"


def _wanted(asked: GpuRequest) -> str:
    if asked.indices:
        words = f"GPU {', '.join(map(str, asked.indices))}"
    else:
        words = f"{asked.count if isinstance(asked.count, int) else 1} GPU(s)"
    words += f" of type {asked.type!r}" if asked.type else ""
    if asked.min_memory_bytes:
        words += f" with {asked.min_memory_bytes / GIB:.3g} GiB each"
    return words


def _described(candidate: Candidate) -> str:
    counts: dict[str, int] = {}
    for gpu in candidate.gpus:
        size = f" {gpu.memory_bytes / GIB:.0f} GiB" if gpu.memory_bytes else ""
        counts[gpu.name + size] = counts.get(gpu.name + size, 0) + 1
    parts = [f"{count} x {name}" for name, count in counts.items()]
    parts += [
        f"GPU {gpu.index} cannot be used: {gpu.problem}" for gpu in candidate.gpus if gpu.problem
    ]
    return one_line(", ".join(parts)) or "no GPU"
