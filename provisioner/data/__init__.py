"""Facts of the field kept as data, each file with its sources and the date of its check."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def load(name: str) -> dict[str, Any]:
    """The table ``name``.yaml of this package."""
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text("utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table
