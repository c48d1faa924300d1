"""SHA-256 without loading OpenSSL, which :mod:`hashlib` would (4 MB of memory per process)."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Callable

MODULES = ("_sha2", "_sha256", "hashlib")
"""The interpreter's own module is ``_sha2`` since Python 3.12, ``_sha256`` before; builds that
follow FIPS have neither."""


def _find() -> Callable[..., Any]:
    for name in MODULES:
        try:
            found: Callable[..., Any] = import_module(name).sha256
        except ImportError:
            continue
        return found
    raise ImportError("this Python has no sha256")


sha256 = _find()
