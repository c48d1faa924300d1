"""The user's public keys: what a container's ``authorized_keys`` is made of."""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from inventory import Host
from provisioner.errors import UsageError
from provisioner.transport.target import resolve

AGENT_TIMEOUT_S = 10
_KIND = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9-]+(@openssh\.com)?")

RunQuietly = Callable[[list[str]], str]


def client_public_keys(host: Host, *, run: RunQuietly | None = None) -> tuple[str, ...]:
    """The public halves of the keys with which this user reaches ``host``, as ``kind base64``.

    The inventory's identity file if it names one, else the SSH configuration's identities and
    the agent's keys. Raises UsageError when there is none.
    """
    run = run or _quietly
    target = resolve(host)
    lines = [line for path in target.identities for line in _halves_of(path, run)]
    if host.identity_file is None:
        lines += run(["ssh-add", "-L"]).splitlines()
    keys = tuple(dict.fromkeys(key for key in map(parse_public_key, lines) if key))
    if not keys:
        raise UsageError(
            "there is no SSH key to put into the container",
            host=host.name,
            remedy="ssh-keygen -t ed25519 makes one; or name identity_file in the inventory",
        )
    return keys


def authorized_keys(keys: Iterable[str]) -> bytes:
    """The file's content; raises UsageError for a line that is not a plain public key."""
    lines = []
    for key in keys:
        parsed = parse_public_key(key)
        if parsed is None:
            raise UsageError(f"not a public key: {key[:60]!r}", remedy="one `kind base64` each")
        lines.append(parsed)
    return "".join(f"{line}\n" for line in lines).encode()


def parse_public_key(line: str) -> str | None:
    """``kind base64`` without comment or options; None when the line is something else."""
    parts = line.split()
    if "\n" in line.strip() or len(parts) < 2 or not _KIND.fullmatch(parts[0]):
        return None
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = parts[0].encode()
    return f"{parts[0]} {parts[1]}" if blob[4 : 4 + len(kind)] == kind else None


def _halves_of(identity: Path, run: RunQuietly) -> list[str]:
    public = identity.with_name(identity.name + ".pub")
    if public.is_file():
        return public.read_text("utf-8", "replace").splitlines()
    return run(["ssh-keygen", "-y", "-P", "", "-f", str(identity)]).splitlines()


def _quietly(words: list[str]) -> str:
    """Standard output; empty when the program is missing, fails or hangs."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=AGENT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
