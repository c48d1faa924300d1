"""Practice guests: Debian in QEMU with a kernel of its own, for what a container cannot have.

A reboot is real, DKMS builds a module for the running kernel, nouveau is loaded. The GPUs are
SIMULATED as on practice hosts. ``up`` makes one and starts it; its methods pull the plug, freeze
it, or keep it from coming back.
"""

from provisioner.lab.guest.guest import Guest
from provisioner.lab.guest.lifecycle import up
from provisioner.lab.guest.tools import missing_tools

__all__ = ["Guest", "missing_tools", "up"]
