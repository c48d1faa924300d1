"""The registry of runtimes: name in a JobSpec -> class, imported only when a job needs it."""

from __future__ import annotations

from importlib import import_module
from typing import Dict, Tuple, Type

from remote_agent.protocol.job import CONTAINER, PROCESS
from remote_agent.runtimes.base import Runtime

RUNTIMES: Dict[str, Tuple[str, str]] = {
    PROCESS: ("remote_agent.runtimes.process", "ProcessRuntime"),
    CONTAINER: ("remote_agent.runtimes.container", "ContainerRuntime"),
}


def runtime_class(name: str) -> Type[Runtime]:
    """Raises KeyError for a name that is not in RUNTIMES."""
    module, attribute = RUNTIMES[name]
    found: Type[Runtime] = getattr(import_module(module), attribute)
    return found
