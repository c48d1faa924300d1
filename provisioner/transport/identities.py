"""The public half of an identity file, without its passphrase."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

MAGIC = b"openssh-key-v1\0"
FILE_LIMIT = 1 << 20


def public_key(path: Path) -> bytes | None:
    """The key's binary form (RFC 4253, section 6.6), as an agent lists it.

    Read from ``path`` itself where that is a public key, from ``path.pub`` beside it, or from the
    unencrypted head of a private key in OpenSSH's format (PROTOCOL.key). None where none is
    found.
    """
    beside = path.with_name(f"{path.name}.pub")
    return _of_public_file(path) or _of_public_file(beside) or _of_private_file(path)


def _of_public_file(path: Path) -> bytes | None:
    words = _text(path).split()
    if len(words) < 2 or words[0].startswith("-"):
        return None
    blob = _decoded(words[1])
    kind, _ = _string(blob)
    return blob if kind == words[0].encode() else None


def _of_private_file(path: Path) -> bytes | None:
    lines = _text(path).strip().splitlines()
    blob = _decoded("".join(lines[1:-1]))
    if not blob.startswith(MAGIC):
        return None
    rest = blob.removeprefix(MAGIC)
    for _ in ("cipher", "key derivation", "its options"):
        _, rest = _string(rest)
    key, _ = _string(rest[4:])  # after the number of keys, which is 1
    return key or None


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A length and that many bytes (RFC 4251, section 5), and what follows."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT).decode("ascii", "replace")
    except OSError:
        return ""
