"""Pinning practice hosts in a known_hosts file: pure edits of its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def marker(port: int, address: str = "127.0.0.1") -> str:
    """How OpenSSH names a host on a port of its own."""
    return f"[{address}]:{port}"


def pin(text: str, keys: Mapping[int, Sequence[str]]) -> str:
    """``text`` with exactly these public keys (``ssh-ed25519 AAAA…``) for these ports."""
    lines = unpin(text, keys).splitlines()
    for port, public_keys in keys.items():
        lines += [f"{marker(port)} {' '.join(key.split()[:2])}" for key in public_keys]
    return "".join(f"{line}\n" for line in lines)


def unpin(text: str, ports: Iterable[int]) -> str:
    """``text`` without any line for these ports; other lines stay byte for byte."""
    stale = {marker(port) for port in ports}
    kept = [line for line in text.splitlines() if not _names(line) & stale]
    return "".join(f"{line}\n" for line in kept)


def _names(line: str) -> set[str]:
    fields = line.split()
    if not fields or fields[0].startswith("#"):
        return set()
    names = fields[1] if fields[0].startswith("@") and len(fields) > 1 else fields[0]
    return set(names.split(","))
