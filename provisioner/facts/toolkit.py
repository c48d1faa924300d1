"""The NVIDIA container toolkit: version, hooks on the path, CDI specifications."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.facts.base import Fact, Output, key_values


@dataclass(frozen=True)
class ToolkitFacts:
    """``version`` of nvidia-ctk, None where it is not installed."""

    version: str | None
    runtime_hook: bool


SCRIPT = r"""
if command -v nvidia-ctk >/dev/null; then
  echo "version=$(limited nvidia-ctk --version 2>&1 | head -n1)"
fi
command -v nvidia-container-runtime-hook >/dev/null && echo hook=1
exit 0
"""


def parse(output: Output) -> ToolkitFacts:
    values = key_values(output.text)
    found = re.search(r"\d+\.\d+\.\d+", values.get("version", ""))
    if "version" in values and found is None:
        raise ValueError("nvidia-ctk does not tell its version")
    return ToolkitFacts(found[0] if found else None, values.get("hook") == "1")


TOOLKIT = Fact("toolkit", SCRIPT, parse, slow=True)
