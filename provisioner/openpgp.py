"""Reads the one public key that a signing-key file may hold (RFC 4880, RFC 9580, section 10.1).

A signing key is checked against a pinned fingerprint without GnuPG on the host. The file comes from
a mirror, so nothing in it is trusted: what is written to a host is built again from the packets
that were understood and that the pinned key itself has signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from provisioner.openpgp_signature import Signature, Verifier, parse_signature

SIGNATURE, PUBLIC_KEY, USER_ID, SUBKEY, USER_ATTRIBUTE = 2, 6, 13, 14, 17
ALLOWED = (SIGNATURE, PUBLIC_KEY, USER_ID, SUBKEY, USER_ATTRIBUTE)
"""Tags of a transferable public key (RFC 4880, section 11.1)."""

MAX_BYTES = 262_144
"""Of a key file. Vendors' signing keys have 2 to 20 KiB."""
MAX_PACKETS = 1_000
MAX_USER_ID = 2_048
"""GnuPG reads no longer one (g10/parse-packet.c, MAX_UID_PACKET_LENGTH)."""
MAX_KEY_BODY = 0xFFFF
"""The fingerprint covers a length of two bytes."""

BEGIN, END = (f"-----{word} PGP PUBLIC KEY BLOCK-----".encode() for word in ("BEGIN", "END"))
PREFIX = {USER_ID: b"\xb4", USER_ATTRIBUTE: b"\xd1"}
"""Stands before a user ID or attribute in what is signed (RFC 4880, section 5.2.4)."""

CERTIFICATIONS = (0x10, 0x11, 0x12, 0x13, 0x30)
SUBKEY_BINDING = 0x18
BINDINGS = (SUBKEY_BINDING, 0x28)
DIRECT = (0x1F, 0x20)
"""Types of a key's signatures over its user IDs, its subkeys and itself (section 5.2.1)."""


@dataclass(frozen=True)
class Component:
    """A packet of a key and the signatures that follow it. ``tag`` is PUBLIC_KEY, USER_ID,
    USER_ATTRIBUTE or SUBKEY."""

    tag: int
    body: bytes
    signatures: tuple[Signature, ...] = ()


@dataclass(frozen=True)
class PublicKey:
    """One transferable public key: the primary key first, then user IDs, then subkeys."""

    components: tuple[Component, ...] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """40 upper-case hex digits (RFC 4880, section 12.2)."""
        framed = _framed_key(self.components[0].body)
        return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()

    def self_signed(self) -> PublicKey:
        """The parts that the primary key has signed itself, with those signatures only.

        Not every host's tools check this: rpm before 4.17.1 trusts a subkey that anybody has put
        into the file (CVE-2021-3521). Raises ValueError when no user ID is left.
        """
        primary = self.components[0]
        verifier = Verifier(primary.body)
        kept = [_verified(one, primary.body, verifier) for one in self.components]
        valid = [one for one in kept if one.tag == PUBLIC_KEY or _is_bound(one)]
        if not any(one.tag == USER_ID for one in valid):
            raise ValueError("an OpenPGP key without a user ID that the key itself has signed")
        return replace(self, components=tuple(valid))

    def armored(self) -> bytes:
        """The key as one armored block, as GnuPG writes it."""
        data = b"".join(map(_serialized, self.components))
        body = base64.b64encode(data)
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        checksum = b"=" + base64.b64encode(_crc24(data).to_bytes(3, "big"))
        return b"\n".join([BEGIN, b"", *lines, checksum, END, b""])


def read_key(data: bytes) -> PublicKey:
    """The key in an armored or binary file. Raises ValueError for anything but exactly one
    transferable public key of version 4, with every length exact."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"no OpenPGP key file: it is larger than {MAX_BYTES // 1024} KiB")
    binary = bool(data) and data[0] & 0x80
    return PublicKey(tuple(_components(list(_packets(data if binary else _dearmored(data))))))


def _dearmored(data: bytes) -> bytes:
    """Text around the one block is passed over (RFC 4880, section 6.2)."""
    lines = [line.rstrip() for line in data.split(b"\n")]
    if sum(b"-----BEGIN" in line for line in lines) != 1:
        raise ValueError("no OpenPGP public key in it, or more than one armored block")
    try:
        begin = lines.index(BEGIN)
        end = lines.index(END, begin)
        start = lines.index(b"", begin, end) + 1
    except ValueError:
        raise ValueError("a broken OpenPGP armor") from None
    if not all(b": " in line or line.endswith(b":") for line in lines[begin + 1 : start - 1]):
        raise ValueError("a broken OpenPGP armor: a header without a value")
    body = lines[start:end]
    checksum = body.pop() if body and body[-1].startswith(b"=") else None
    try:
        packets = base64.b64decode(b"".join(body), validate=True)
        known = None if checksum is None else base64.b64decode(checksum[1:], validate=True)
    except binascii.Error as error:
        raise ValueError("a broken OpenPGP armor") from error
    if known is not None and known != _crc24(packets).to_bytes(3, "big"):
        raise ValueError("a broken OpenPGP armor: its checksum is wrong")
    return packets


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


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet, in time that grows with the data only."""
    position = count = 0
    while position < len(data):
        tag, start, length = _header(data, position)
        count += 1
        if tag not in ALLOWED:
            raise ValueError(f"an OpenPGP packet (tag {tag}) that is no part of a public key")
        if start + length > len(data):
            raise ValueError("the OpenPGP data ends too early")
        if count > MAX_PACKETS:
            raise ValueError(f"an OpenPGP key of more than {MAX_PACKETS} packets")
        yield tag, data[start : start + length]
        position = start + length


def _header(data: bytes, position: int) -> tuple[int, int, int]:
    """Tag, offset of the body and its length (RFC 4880, section 4.2). Lengths in parts and without
    an end are for encrypted data and are refused."""
    first = data[position]
    if not first & 0x80:
        raise ValueError("not OpenPGP data")
    header = data[position + 1 : position + 6] + bytes(5)
    if first & 0x40:
        octets, length = _new_length(header)
        return first & 0x3F, position + 1 + octets, length
    size = {0: 1, 1: 2, 2: 4}.get(first & 0x03)
    if size is None:
        raise ValueError("an OpenPGP packet without a length")
    return (first >> 2) & 0x0F, position + 1 + size, int.from_bytes(header[:size], "big")


def _new_length(header: bytes) -> tuple[int, int]:
    first = header[0]
    if first < 192:
        return 1, first
    if first < 224:
        return 2, ((first - 192) << 8) + header[1] + 192
    if first == 255:
        return 5, int.from_bytes(header[1:5], "big")
    raise ValueError("an OpenPGP packet in parts")


def _components(packets: Sequence[tuple[int, bytes]]) -> Iterator[Component]:
    """The grammar: primary key, its signatures, user IDs with theirs, subkeys with theirs."""
    if not packets or packets[0][0] != PUBLIC_KEY:
        raise ValueError("no OpenPGP public key at its start")
    allowed: tuple[int, ...] = (USER_ID, USER_ATTRIBUTE, SUBKEY)
    current: Component | None = None
    signatures: list[Signature] = []
    for tag, body in packets:
        if current is not None and tag == SIGNATURE:
            signatures.append(parse_signature(body))
            continue
        if current is not None:
            yield replace(current, signatures=tuple(signatures))
            if tag not in allowed:
                kind = "a second key" if tag == PUBLIC_KEY else "a user ID after a subkey"
                raise ValueError(f"not one OpenPGP public key: {kind} (tag {tag})")
        if tag == SUBKEY:
            allowed = (SUBKEY,)
        _check_body(tag, body)
        current, signatures = Component(tag, body), []
    assert current is not None
    yield replace(current, signatures=tuple(signatures))


def _check_body(tag: int, body: bytes) -> None:
    if tag in (PUBLIC_KEY, SUBKEY):
        if body[:1] != b"\x04":
            raise ValueError(f"an OpenPGP key of version {body[0] if body else '?'}, not 4")
        if len(body) > MAX_KEY_BODY:
            raise ValueError("an OpenPGP key that is too long")
    elif tag == USER_ID and len(body) > MAX_USER_ID:
        raise ValueError("an OpenPGP user ID that is too long")


def _framed_key(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2, "big") + body


def _verified(component: Component, primary: bytes, verifier: Verifier) -> Component:
    """``component`` with the signatures of the primary key that are good."""
    types: tuple[int, ...] = DIRECT
    signed = _framed_key(primary)
    if component.tag == SUBKEY:
        types, signed = BINDINGS, signed + _framed_key(component.body)
    elif component.tag != PUBLIC_KEY:
        length = len(component.body).to_bytes(4, "big")
        types, signed = CERTIFICATIONS, signed + PREFIX[component.tag] + length + component.body
    good = (one for one in component.signatures if one.type in types)
    return replace(component, signatures=tuple(one for one in good if verifier.good(one, signed)))


def _is_bound(component: Component) -> bool:
    """Has the primary key signed that this is its own? A revocation alone does not say so."""
    types = (SUBKEY_BINDING,) if component.tag == SUBKEY else CERTIFICATIONS[:4]
    return any(one.type in types for one in component.signatures)


def _serialized(component: Component) -> bytes:
    signatures = (_packet(SIGNATURE, one.to_bytes()) for one in component.signatures)
    return _packet(component.tag, component.body) + b"".join(signatures)


def _packet(tag: int, body: bytes) -> bytes:
    """In the old format where there is one, as GnuPG and old versions of rpm write and read it."""
    if tag > 0x0F:
        return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body
    kind = 0 if len(body) < 0x100 else 1 if len(body) < 0x10000 else 2
    return bytes([0x80 | tag << 2 | kind]) + len(body).to_bytes(1 << kind, "big") + body
