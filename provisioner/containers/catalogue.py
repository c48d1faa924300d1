"""The image catalogue: rows of facts in catalogue.yaml, read once and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

Version = tuple[int, ...]
Capability = tuple[int, int]


@dataclass(frozen=True)
class ImageRow:
    """One image and what it needs; see the head of catalogue.yaml."""

    image: str
    torch: Version
    cuda: Version
    min_driver: Version
    toolkit_driver: Version
    architectures: tuple[Capability, ...]
    ptx: Capability | None
    source: str
    date: str


@dataclass(frozen=True)
class GpuDriverRow:
    """GPUs of ``capability`` and newer need at least ``min_driver``."""

    capability: Capability
    min_driver: Version
    name: str


@dataclass(frozen=True)
class Catalogue:
    images: tuple[ImageRow, ...]
    gpu_drivers: tuple[GpuDriverRow, ...]


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """The catalogue that ships with rigup."""
    text = resources.files("provisioner.containers").joinpath("catalogue.yaml").read_text("utf-8")
    return parse_catalogue(yaml.safe_load(text))


def parse_catalogue(data: Mapping[str, Any]) -> Catalogue:
    """Rows from the YAML's objects; raises ValueError for a version that is none."""
    return Catalogue(
        tuple(_image(row) for row in data["images"]),
        tuple(
            GpuDriverRow(
                parse_capability(row["capability"]), parse_version(row["min_driver"]), row["name"]
            )
            for row in data["gpu_drivers"]
        ),
    )


def _image(row: Mapping[str, Any]) -> ImageRow:
    return ImageRow(
        image=row["image"],
        torch=parse_version(row["torch"]),
        cuda=parse_version(row["cuda"]),
        min_driver=parse_version(row["min_driver"]),
        toolkit_driver=parse_version(row["toolkit_driver"]),
        architectures=tuple(parse_capability(text) for text in row["architectures"]),
        ptx=parse_capability(row["ptx"]) if "ptx" in row else None,
        source=row["source"],
        date=str(row["date"]),
    )


def parse_version(text: str) -> Version:
    """``"580.95.05"`` as ``(580, 95, 5)``; raises ValueError."""
    try:
        return tuple(int(part) for part in text.strip().split("."))
    except (ValueError, AttributeError):
        raise ValueError(f"not a version: {text!r}") from None


def parse_capability(text: str) -> Capability:
    """``"9.0"`` as ``(9, 0)``; raises ValueError."""
    version = parse_version(text)
    if len(version) != 2:
        raise ValueError(f"not a compute capability (such as 9.0): {text!r}")
    return version[0], version[1]


def show_version(version: Version) -> str:
    """Back to dots; a driver's third part has two digits, as NVIDIA writes it."""
    return ".".join(f"{part:02d}" if at == 2 else str(part) for at, part in enumerate(version))
