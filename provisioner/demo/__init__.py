"""The embedded default: the main job over a real SSH server on loopback. See ``make demo``."""
