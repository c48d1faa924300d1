"""Modules that are imported when they are first used, so that a command starts in little time."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for the module of that name; reading a name in it imports it.

    Safe in threads, as importing is.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)
