"""How much memory values take that a host sent, so that what is kept of them can be limited."""

from __future__ import annotations

import sys

from remote_agent.protocol.values import Value


def footprint(value: object) -> int:
    """Bytes of ``value`` and all that is in it. What is in it twice counts twice."""
    size = sys.getsizeof(value)
    if isinstance(value, Value):
        parts = vars(value)
        return size + sys.getsizeof(parts) + sum(map(footprint, parts.values()))
    if isinstance(value, tuple | list):
        return size + sum(map(footprint, value))
    if isinstance(value, dict):
        return size + sum(map(footprint, value)) + sum(map(footprint, value.values()))
    return size
