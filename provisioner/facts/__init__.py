"""What is true on a host: one file per subject, and this registry of all of them."""

from typing import Any

from provisioner.facts.agent import AGENT
from provisioner.facts.archive import ARCHIVE
from provisioner.facts.base import Fact, Facts, FactUnreadable, Output, Unreadable, gather
from provisioner.facts.directories import DIRECTORIES
from provisioner.facts.docker import DOCKER
from provisioner.facts.gpu import GPU
from provisioner.facts.gpu_leases import GPU_LEASES
from provisioner.facts.kernel import KERNEL
from provisioner.facts.login import LOGIN
from provisioner.facts.machine import MACHINE
from provisioner.facts.network import NETWORK
from provisioner.facts.nvidia_services import NVIDIA_SERVICES
from provisioner.facts.os import OS
from provisioner.facts.packages import PACKAGES
from provisioner.facts.pending import PENDING
from provisioner.facts.proof import PROOF
from provisioner.facts.python import PYTHON
from provisioner.facts.resources import RESOURCES
from provisioner.facts.sources import SOURCES
from provisioner.facts.toolkit import TOOLKIT

ALL_FACTS: tuple[Fact[Any], ...] = (
    OS,
    MACHINE,
    LOGIN,
    RESOURCES,
    NETWORK,
    PACKAGES,
    SOURCES,
    ARCHIVE,
    GPU,
    KERNEL,
    NVIDIA_SERVICES,
    DOCKER,
    TOOLKIT,
    PYTHON,
    AGENT,
    PENDING,
    PROOF,
    DIRECTORIES,
    GPU_LEASES,
)

__all__ = [
    "AGENT",
    "ALL_FACTS",
    "ARCHIVE",
    "DIRECTORIES",
    "DOCKER",
    "GPU",
    "GPU_LEASES",
    "KERNEL",
    "LOGIN",
    "MACHINE",
    "NETWORK",
    "NVIDIA_SERVICES",
    "OS",
    "PACKAGES",
    "PENDING",
    "PROOF",
    "PYTHON",
    "RESOURCES",
    "SOURCES",
    "TOOLKIT",
    "Fact",
    "FactUnreadable",
    "Facts",
    "Output",
    "Unreadable",
    "gather",
]
