"""Which host a job goes to: a pure choice among what the hosts told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.errors import BlockedError, ExitCode, RigupError, UsageError

ALL = "all"
GIB = 1 << 30


@dataclass(frozen=True)
class GpuState:
    """One GPU as the choice sees it. ``free``: nobody leased it and nobody computes on it now.
    ``memory_bytes`` is None where the driver does not tell it."""

    index: int
    name: str
    memory_bytes: int | None
    free: bool


@dataclass(frozen=True)
class Candidate:
    """One host. ``error``: why it could not be asked. ``provisioned``: rigup's verification record
    is there, or what a job needs works without one. ``jobs_ahead``: queued and running jobs that
    use GPUs. ``has_image``: nothing must be pulled or built first."""

    name: str
    gpus: tuple[GpuState, ...] = ()
    provisioned: bool = True
    jobs_ahead: int = 0
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
    """``gpus``: how many to lease. ``waits``: they are not free now, so the job is queued."""

    name: str
    gpus: int
    waits: bool
    reason: str


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


def choose(candidates: Sequence[Candidate], asked: GpuRequest) -> Choice:
    """The host where the job starts soonest, and why.

    Hosts with enough free GPUs come first: among them one that has the image, then the one with
    most free GPUs, then the inventory's order. Where all are busy: the shortest queue. Raises
    RigupError that names every host with the reason why it cannot take the job.
    """
    reachable = _reachable(candidates)
    provisioned = _provisioned(reachable)
    if not asked.needs_gpu:
        return _for_cpu(provisioned)
    fitting = _fitting(provisioned, asked)
    return min(
        (_rank(position, candidate, asked) for position, candidate in enumerate(fitting)),
        key=lambda ranked: ranked[0],
    )[1]


def _reachable(candidates: Sequence[Candidate]) -> list[Candidate]:
    found = [candidate for candidate in candidates if candidate.error is None]
    if found:
        return found
    errors = [candidate.error for candidate in candidates if candidate.error is not None]
    if len(errors) == 1:
        raise errors[0]
    lines = [f"{error.host}: {error.message}" for error in errors]
    problem = RigupError(
        "no host could be asked:\n" + "\n".join(lines),
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


def _for_cpu(candidates: Sequence[Candidate]) -> Choice:
    chosen = min(candidates, key=lambda candidate: candidate.jobs_ahead)
    return Choice(chosen.name, 0, False, "no GPU was asked for")


def _fitting(candidates: Sequence[Candidate], asked: GpuRequest) -> list[Candidate]:
    if not any(candidate.gpus for candidate in candidates):
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
    return [
        gpu
        for gpu in candidate.gpus
        if (asked.type or "").lower() in gpu.name.lower()
        and (gpu.memory_bytes or 0) >= asked.min_memory_bytes
    ]


def _needed(candidate: Candidate, asked: GpuRequest) -> int:
    if asked.count == ALL:
        return len(candidate.gpus)
    return 1 if asked.count is None else int(asked.count)


def _rank(position: int, candidate: Candidate, asked: GpuRequest) -> tuple[tuple[int, ...], Choice]:
    suitable, needed = _suitable(candidate, asked), _needed(candidate, asked)
    if asked.indices:
        suitable = [gpu for gpu in suitable if gpu.index in asked.indices]
    free = sum(gpu.free for gpu in suitable)
    if free >= needed:
        image = "its image is there" if candidate.has_image else "its image must come first"
        reason = f"{free} of {len(suitable)} GPUs free; {image}"
        key = (0, 0 if candidate.has_image else 1, -free, position)
        return key, Choice(candidate.name, needed, False, reason)
    reason = f"all hosts are busy; here {candidate.jobs_ahead} job(s) are ahead of it"
    return (1, candidate.jobs_ahead, -free, position), Choice(candidate.name, needed, True, reason)


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
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or "no GPU"
