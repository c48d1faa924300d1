"""Practice hosts: real systemd machines in local containers, with SIMULATED GPUs.

``up`` makes them, ``status`` shows them, ``down`` removes every trace but cached images.
:func:`local_base` gives other builders a plain Debian image where no registry is reachable.
"""

from provisioner.lab.containers import LabHost
from provisioner.lab.images import local_base
from provisioner.lab.lifecycle import Lab, down, status, up
from provisioner.lab.power import (
    cut_network,
    pause,
    power_off,
    power_on,
    restore_network,
    unpause,
)

__all__ = [
    "Lab",
    "LabHost",
    "cut_network",
    "down",
    "local_base",
    "pause",
    "power_off",
    "power_on",
    "restore_network",
    "status",
    "unpause",
    "up",
]
