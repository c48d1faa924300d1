"""OpenSSH's known_hosts files, read as ``ssh`` reads them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

Paramiko's own reader fails on lines that OpenSSH understands or skips (``@cert-authority``, a
broken key, bytes that are not UTF-8), and knows no patterns.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

from provisioner.transport.target import Target

REVOKED = "@revoked"


def pinned_keys(target: Target) -> dict[str, str]:
    """Key type -> base64 of the first key of that type on file for the target; revoked keys are
    left out. A line that cannot be read counts for nothing."""
    found: dict[str, str] = {}
    revoked: set[str] = set()
    for path in target.known_hosts:
        for mark, names, kind, key in _lines(path):
            if not _matches(target.known_hosts_name, names):
                continue
            if mark == REVOKED:
                revoked.add(key)
            elif not mark:
                found.setdefault(kind, key)
    return {kind: key for kind, key in found.items() if key not in revoked}


def fingerprint(key_base64: str) -> str:
    """``SHA256:…`` as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(key_base64)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _lines(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(mark, names, key type, key) of every well-formed line; mark is "" for a plain one."""
    if not path.is_file():
        return
    for line in path.read_text("utf-8", "replace").splitlines():
        words = line.split()
        mark = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) >= 3 and not words[0].startswith("#") and _is_key(words[1], words[2]):
            yield mark, words[0], words[1], words[2]


def _is_key(kind: str, key: str) -> bool:
    """A key's binary form repeats its type (RFC 4253, section 6.6)."""
    try:
        blob = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return False
    return blob.startswith(len(kind.encode()).to_bytes(4, "big") + kind.encode())


def _matches(name: str, patterns: str) -> bool:
    """A hashed name, or a comma-separated list of patterns in which ``!`` excludes."""
    if patterns.startswith("|"):
        return _matches_hash(name, patterns)
    name = name.lower()
    wanted = [pattern for pattern in patterns.lower().split(",") if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns.lower().split(",") if pattern.startswith("!")]
    return _any(name, wanted) and not _any(name, unwanted)


def _any(name: str, patterns: list[str]) -> bool:
    """``*`` and ``?`` only: brackets are part of a name with a port."""
    return any(fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


def _matches_hash(name: str, hashed: str) -> bool:
    """``|1|salt|hash``: HMAC-SHA-1 of the name, keyed with the salt."""
    parts = hashed.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.lower().encode(), hashlib.sha1).digest(), digest)
