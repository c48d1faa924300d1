"""Which PyTorch image suits a host: the newest that its driver and every one of its GPUs run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.containers.catalogue import (
    Capability,
    Catalogue,
    ImageRow,
    Version,
    load_catalogue,
    parse_capability,
    parse_version,
    show_version,
)
from provisioner.errors import BlockedError

PASSED_OVER_SHOWN = 3


@dataclass(frozen=True)
class ImageChoice:
    """``reason`` says why this one; ``notes`` what to know about it; ``passed_over`` maps the
    newer images that do not fit to why not."""

    image: str
    torch: str
    cuda: str
    reason: str
    notes: tuple[str, ...] = ()
    passed_over: tuple[tuple[str, str], ...] = ()


def resolve_image(
    driver_version: str | None,
    compute_capabilities: Sequence[str],
    catalogue: Catalogue | None = None,
) -> ImageChoice:
    """The newest image that runs on this driver and has code for all of these GPUs.

    Among images of one PyTorch release, one whose CUDA the driver knows fully comes first. Raises
    BlockedError with the reason and what to do when none fits, before anything is pulled.
    """
    rows = catalogue or load_catalogue()
    driver, gpus = _read(driver_version, compute_capabilities)
    _require_driver_for_gpus(driver, gpus, rows)
    judged = [(row, _objection(row, driver, gpus)) for row in _newest_first(rows, driver)]
    for position, (row, objection) in enumerate(judged):
        if objection is None:
            passed = tuple((other.image, why or "") for other, why in judged[:position])
            return _choice(row, driver, gpus, passed)
    raise _nothing_fits(judged, driver, gpus)


def _read(
    driver_version: str | None, capabilities: Sequence[str]
) -> tuple[Version, set[Capability]]:
    if not capabilities:
        raise BlockedError("no NVIDIA GPU was found, so no CUDA image can be chosen")
    if not driver_version:
        raise BlockedError(
            "the NVIDIA driver is not loaded, so no CUDA image can be chosen",
            remedy="invoke provision --host HOST",
        )
    try:
        return parse_version(driver_version), {parse_capability(text) for text in capabilities}
    except ValueError as error:
        raise BlockedError(f"cannot choose an image: {error}") from None


def _require_driver_for_gpus(driver: Version, gpus: set[Capability], rows: Catalogue) -> None:
    for need in rows.gpu_drivers:
        if max(gpus) >= need.capability and driver < need.min_driver:
            raise BlockedError(
                f"driver {show_version(driver)} does not know {need.name} GPUs (compute capability "
                f"{_dotted(max(gpus))}); they need {show_version(need.min_driver)} or newer",
                remedy="set a newer driver_branch for the host, then: invoke provision --host HOST",
            )


def _newest_first(rows: Catalogue, driver: Version) -> list[ImageRow]:
    return sorted(
        rows.images,
        key=lambda row: (row.torch, _knows_fully(driver, row), row.cuda),
        reverse=True,
    )


def _objection(row: ImageRow, driver: Version, gpus: set[Capability]) -> str | None:
    """Why the image does not work here; None when it does."""
    if driver < row.min_driver:
        return f"CUDA {_dotted(row.cuda)} needs driver {show_version(row.min_driver)} or newer"
    without = sorted(gpu for gpu in gpus if not _runs(row, gpu, driver))
    if without:
        return f"no code for compute capability {', '.join(map(_dotted, without))}"
    return None


def _runs(row: ImageRow, gpu: Capability, driver: Version) -> bool:
    """Machine code runs on its own and later minor capabilities of one major; PTX on all later."""
    if any(gpu[0] == built[0] and gpu[1] >= built[1] for built in row.architectures):
        return True
    return row.ptx is not None and gpu > row.ptx and _knows_fully(driver, row)


def _knows_fully(driver: Version, row: ImageRow) -> bool:
    """Whether the driver's branch is at least that of the image's CUDA toolkit: a branch, such as
    580, stays with one CUDA minor version."""
    return driver[0] >= row.toolkit_driver[0]


def _choice(
    row: ImageRow,
    driver: Version,
    gpus: set[Capability],
    passed_over: tuple[tuple[str, str], ...],
) -> ImageChoice:
    shown = ", ".join(_dotted(gpu) for gpu in sorted(gpus))
    reason = (
        f"the newest image whose CUDA {_dotted(row.cuda)} runs on driver {show_version(driver)} "
        f"(it needs {show_version(row.min_driver)}) with code for compute capability {shown}"
    )
    notes: tuple[str, ...] = ()
    if not _knows_fully(driver, row):
        notes = (
            f"driver {show_version(driver)} is older than CUDA {_dotted(row.cuda)}'s own "
            f"({show_version(row.toolkit_driver)}): kernels that exist only as PTX cannot run",
        )
    return ImageChoice(row.image, _dotted(row.torch), _dotted(row.cuda), reason, notes, passed_over)


def _nothing_fits(
    judged: list[tuple[ImageRow, str | None]], driver: Version, gpus: set[Capability]
) -> BlockedError:
    newest = "; ".join(f"{row.image}: {why}" for row, why in judged[:PASSED_OVER_SHOWN])
    shown = ", ".join(_dotted(gpu) for gpu in sorted(gpus))
    too_old = all(driver < row.min_driver for row, _ in judged)
    remedy = (
        "a newer driver: set driver_branch for the host, then invoke provision --host HOST"
        if too_old
        else "set container.image in the inventory to an image built for these GPUs"
    )
    return BlockedError(
        f"no image in the catalogue runs on driver {show_version(driver)} with compute capability "
        f"{shown} ({newest})",
        remedy=remedy,
    )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
