"""What a host must have: one file each, and this registry in the order of application."""

from provisioner.steps.agent import Agent
from provisioner.steps.base import Blocked, Change, Outcome, Satisfied, Step
from provisioner.steps.docker import Docker
from provisioner.steps.driver import Driver
from provisioner.steps.toolkit import Toolkit

ALL_STEPS: tuple[Step, ...] = (Docker(), Driver(), Toolkit(), Agent())

__all__ = ["ALL_STEPS", "Blocked", "Change", "Outcome", "Satisfied", "Step"]
