"""What a host must have: one file each, and this registry in the order of application."""

from provisioner.steps.agent import Agent
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, Step
from provisioner.steps.directories import Directories
from provisioner.steps.docker import Docker
from provisioner.steps.driver import Driver
from provisioner.steps.fabric_manager import FabricManager
from provisioner.steps.gpu_leases import GpuLeases
from provisioner.steps.kernel import Kernel
from provisioner.steps.machine import Machine
from provisioner.steps.network import Network
from provisioner.steps.persistence import Persistence
from provisioner.steps.preflight import Preflight
from provisioner.steps.toolkit import Toolkit

LATER_STEPS: tuple[Step, ...] = (
    Network(),
    Docker(),
    Kernel(),
    Driver(),
    Persistence(),
    FabricManager(),
    Toolkit(),
    GpuLeases(),
    Directories(),
    Agent(),
)

ALL_STEPS: tuple[Step, ...] = (Machine(), Preflight(LATER_STEPS), *LATER_STEPS)

__all__ = ["ALL_STEPS", "Blocked", "Change", "Outcome", "Satisfied", "Step"]
