"""What is true on a host: one file per subject, and this registry of all of them."""

from typing import Any

from provisioner.facts.agent import AGENT
from provisioner.facts.base import Fact, Facts, FactUnreadable, Output, Unreadable, gather
from provisioner.facts.docker import DOCKER
from provisioner.facts.gpu import GPU
from provisioner.facts.login import LOGIN
from provisioner.facts.os import OS
from provisioner.facts.packages import PACKAGES
from provisioner.facts.pending import PENDING
from provisioner.facts.python import PYTHON
from provisioner.facts.sources import SOURCES
from provisioner.facts.toolkit import TOOLKIT

ALL_FACTS: tuple[Fact[Any], ...] = (
    OS,
    LOGIN,
    PACKAGES,
    SOURCES,
    GPU,
    DOCKER,
    TOOLKIT,
    PYTHON,
    AGENT,
    PENDING,
)

__all__ = [
    "AGENT",
    "ALL_FACTS",
    "DOCKER",
    "GPU",
    "LOGIN",
    "OS",
    "PACKAGES",
    "PENDING",
    "PYTHON",
    "SOURCES",
    "TOOLKIT",
    "Fact",
    "FactUnreadable",
    "Facts",
    "Output",
    "Unreadable",
    "gather",
]
