"""Extra certificate authorities of the inventory: read here, checked, one file per certificate."""

from __future__ import annotations

import binascii
import hashlib
import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from provisioner.errors import UsageError

LARGEST_FILE = 1 << 20
"""Bytes: a whole bundle of public authorities takes a quarter of it."""
MOST_CERTIFICATES = 20
"""More is somebody's whole bundle, not what one network adds."""

_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)
_SEQUENCE = 0x30


def read_authorities(paths: Iterable[Path]) -> dict[str, bytes]:
    """File name on a host -> one PEM certificate, in 64 columns and without anything beside it.

    The name carries the certificate's SHA-256, so another certificate is another file. Raises
    UsageError for a file that is missing, too large, or no certificate.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        for der in _certificates(path):
            name = f"rigup-{hashlib.sha256(der).hexdigest()[:16]}.crt"
            found[name] = ssl.DER_cert_to_PEM_cert(der).encode()
    return found


def _certificates(path: Path) -> list[bytes]:
    text = _text(path)
    if "PRIVATE KEY-----" in text:
        raise _refused(path, "holds a private key", "keep the key secret: name a file without it")
    blocks = _PEM.findall(text)
    if not blocks or len(blocks) != text.count("-----BEGIN "):
        raise _refused(
            path,
            "is no file of PEM certificates",
            "convert it: openssl x509 -inform der -in FILE -out FILE.pem",
        )
    if len(blocks) > MOST_CERTIFICATES:
        raise _refused(
            path,
            f"holds {len(blocks)} certificates",
            f"name a file with the authorities that your network adds, {MOST_CERTIFICATES} at most",
        )
    return [_der(block, path) for block in blocks]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise _refused(path, f"cannot be read ({error})", "check the path and its mode") from None
    if len(data) > LARGEST_FILE:
        raise _refused(path, "is larger than 1 MiB", "name a file of PEM certificates")
    return data.decode("utf-8", "replace")


def _der(block: str, path: Path) -> bytes:
    """Its outer frame is checked: one ASN.1 sequence that fills the block (X.690, 8.1)."""
    try:
        der = ssl.PEM_cert_to_DER_cert(block)
    except (ValueError, binascii.Error):
        der = b""
    if not _is_one_sequence(der):
        raise _refused(path, "holds a damaged certificate", "check it: openssl x509 -in FILE -text")
    return der


def _is_one_sequence(der: bytes) -> bool:
    if len(der) < 4 or der[0] != _SEQUENCE:
        return False
    octets = der[1] & 0x7F if der[1] & 0x80 else 0
    length = int.from_bytes(der[2 : 2 + octets], "big") if octets else der[1]
    return 2 + octets + length == len(der)


def _refused(path: Path, what: str, remedy: str) -> UsageError:
    return UsageError(f"ca_certificates: {path} {what}", remedy=remedy)
