"""Facts of the field kept as data, each file with its sources and the date of its check."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C takes a tenth of the time, where PyYAML was built with it."""


@cache
def load(name: str) -> dict[str, Any]:
    """The table ``name``.yaml of this package."""
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text("utf-8")
    table: dict[str, Any] = yaml.load(text, Loader=LOADER)  # noqa: S506 (both are safe loaders)
    return table
