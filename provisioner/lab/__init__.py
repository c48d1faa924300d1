"""Practice hosts: real systemd hosts in local Docker, with simulated GPUs."""
