"""The Python that runs the remote agent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output


@dataclass(frozen=True)
class PythonFacts:
    """The version of ``python3`` as (major, minor), None where there is none."""

    version: tuple[int, int] | None


SCRIPT = r"""
command -v python3 >/dev/null || { echo none; exit 0; }
python3 --version 2>&1
"""


def parse(output: Output) -> PythonFacts:
    if output.text.strip() == "none":
        return PythonFacts(None)
    found = re.search(r"Python (\d+)\.(\d+)", output.text)
    if found is None:
        raise ValueError("python3 does not tell its version")
    return PythonFacts((int(found[1]), int(found[2])))


PYTHON = Fact("python", SCRIPT, parse)
