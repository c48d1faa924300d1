"""What slow tests measured: told as it happens, and once more when all is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

FIGURES: list[str] = []


def tell(text: str) -> None:
    FIGURES.append(text)
    print(text, flush=True)  # seen with pytest -s


@contextmanager
def measured(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    tell(f"{what}: {time.monotonic() - started:.0f} s")
