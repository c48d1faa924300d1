"""The parts of :mod:`provisioner.verify`: what runs on the host, and what is remembered of it."""
