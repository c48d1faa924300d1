"""Samples of the host and its GPUs."""
