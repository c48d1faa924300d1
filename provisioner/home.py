"""Where rigup keeps its own state on this machine."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "RIGUP_HOME"


def rigup_home() -> Path:
    """``$RIGUP_HOME`` when set and not empty, else ``~/.rigup``; absolute, maybe not there yet."""
    chosen = os.environ.get(HOME_VARIABLE, "")
    return (Path(chosen) if chosen else Path("~/.rigup")).expanduser().absolute()
