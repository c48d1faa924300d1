"""Reading just enough of OpenPGP to know which key a key file holds (RFC 4880, RFC 9580).

This lets a signing key be checked against a pinned fingerprint without GnuPG on the host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

PUBLIC_KEY = 6
ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?P<head>(?:[^\r\n]+\r?\n)*)\r?\n"
    rb"(?P<body>[A-Za-z0-9+/=\r\n]+?)\r?\n?(?:=[A-Za-z0-9+/]{4}\r?\n)?-----END"
)


def fingerprints(data: bytes) -> tuple[str, ...]:
    """Upper-case hex fingerprints of the primary keys in an armored or binary key file.

    Raises ValueError when ``data`` is no OpenPGP key file.
    """
    packets = _packets(_dearmor(data))
    found = tuple(_fingerprint(body) for tag, body in packets if tag == PUBLIC_KEY)
    if not found:
        raise ValueError("no OpenPGP public key in it")
    return found


def armored(data: bytes) -> bytes:
    """The same keys as one armored block, and nothing else that stood in ``data``.

    apt reads only the first block of a file, and other readers may find keys where
    :func:`fingerprints` saw none: what is installed is exactly what was checked.
    """
    packets = _dearmor(data)
    body = base64.b64encode(packets)
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    checksum = b"=" + base64.b64encode(_crc24(packets).to_bytes(3, "big"))
    head, foot = (b"-----%s PGP PUBLIC KEY BLOCK-----" % word for word in (b"BEGIN", b"END"))
    return b"\n".join([head, b"", *lines, checksum, foot, b""])


def _crc24(data: bytes) -> int:
    """RFC 4880, section 6.1. GnuPG 2.2 cannot read a block without it."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _dearmor(data: bytes) -> bytes:
    if b"-----BEGIN" not in data:
        return data
    blocks = list(ARMOR.finditer(data))
    if not blocks:
        raise ValueError("a broken OpenPGP armor")
    try:
        return b"".join(base64.b64decode(block["body"]) for block in blocks)
    except binascii.Error as error:
        raise ValueError("a broken OpenPGP armor") from error


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    packets = []
    while data:
        tag, start, length = _header(data)
        if start + length > len(data):
            raise ValueError("the OpenPGP data ends too early")
        packets.append((tag, data[start : start + length]))
        data = data[start + length :]
    return packets


def _header(data: bytes) -> tuple[int, int, int]:
    """Tag, offset of the body and its length (RFC 4880, section 4.2)."""
    first = data[0]
    if not first & 0x80:
        raise ValueError("not OpenPGP data")
    data += bytes(6)
    if first & 0x40:
        return (first & 0x3F, *_new_length(data))
    size = {0: 1, 1: 2, 2: 4}.get(first & 0x03)
    if size is None:
        raise ValueError("an OpenPGP packet without a length")
    return (first >> 2) & 0x0F, 1 + size, int.from_bytes(data[1 : 1 + size], "big")


def _new_length(data: bytes) -> tuple[int, int]:
    first = data[1]
    if first < 192:
        return 2, first
    if first < 224:
        return 3, ((first - 192) << 8) + data[2] + 192
    if first == 255:
        return 6, int.from_bytes(data[2:6], "big")
    raise ValueError("an OpenPGP packet in parts")


def _fingerprint(body: bytes) -> str:
    """Version 4: RFC 4880, section 12.2; version 6: RFC 9580, section 5.5.4."""
    if body[:1] == b"\x04":
        framed = b"\x99" + len(body).to_bytes(2, "big") + body
        return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()
    if body[:1] == b"\x06":
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise ValueError(f"an OpenPGP key of version {body[0] if body else '?'}")
